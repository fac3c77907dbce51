"""Where a scene plays: one background painter a context, each `paint(image, rng)`."""

import math

import numpy as np
from PIL import Image, ImageDraw

from miniature.canvas import arc_points, darken, jitter, lighten

BACKDROPS = ((226, 222, 214), (202, 213, 226), (236, 216, 200), (206, 226, 208), (192, 188, 204))


def gradient(size, top, bottom):
    """A square RGB image fading from `top` to `bottom`."""
    rows = np.linspace(np.array(top), np.array(bottom), size)[:, None]
    return Image.fromarray(np.repeat(rows, size, axis=1).astype(np.uint8))


def scenery(size, sky, ground, rng):
    """A sky over a ground; returns the image, its drawing and the horizon in pixels."""
    image = gradient(size, *sky)
    draw = ImageDraw.Draw(image)
    horizon = size * rng.uniform(0.5, 0.6)
    draw.rectangle([0, horizon, size, size], fill=ground)
    return image, draw, horizon


def disc(draw, x, y, radius, color, flatten=1.0):
    draw.ellipse([x - radius, y - radius * flatten, x + radius, y + radius * flatten], fill=color)


def corner(size, rng):
    """An x near the left or the right edge, where the object seldom is."""
    return size * rng.choice([rng.uniform(0.08, 0.2), rng.uniform(0.8, 0.92)])


def plain(size, rng):
    color = jitter(rng.choice(BACKDROPS), rng)
    return gradient(size, lighten(color, 0.2), darken(color, 0.9))


def beach(size, rng):
    image, draw, horizon = scenery(size, ((120, 196, 246), (192, 230, 250)), (240, 216, 152), rng)
    draw.rectangle([0, horizon - size * 0.13, size, horizon], fill=(24, 122, 196))
    disc(draw, corner(size, rng), size * 0.13, size * 0.075, (255, 236, 120))
    return image


def snow(size, rng):
    image, draw, horizon = scenery(size, ((184, 200, 216), (216, 226, 236)), (248, 250, 253), rng)
    for x in (rng.uniform(0.0, 0.25) * size, rng.uniform(0.75, 1.0) * size):
        half, height = size * 0.1, size * rng.uniform(0.22, 0.3)
        draw.polygon([(x - half, horizon), (x + half, horizon), (x, horizon - height)], fill=(92, 132, 122))
    for _ in range(10):
        disc(draw, rng.uniform(0, size), rng.uniform(0, size), size * 0.022, (255, 255, 255))
    return image


def leaf(draw, x, y, length, angle, color):
    across = (-math.sin(angle) * length * 0.22, math.cos(angle) * length * 0.22)
    along = (math.cos(angle) * length, math.sin(angle) * length)
    middle = (x + along[0] / 2, y + along[1] / 2)
    sides = [(middle[0] + sign * across[0], middle[1] + sign * across[1]) for sign in (1, -1)]
    draw.polygon([(x, y), sides[0], (x + along[0], y + along[1]), sides[1]], fill=color)


def jungle(size, rng):
    image, draw, horizon = scenery(size, ((18, 74, 34), (36, 106, 46)), (72, 62, 30), rng)
    for _ in range(8):
        x, y = rng.uniform(0, size), rng.uniform(0, horizon)
        color = rng.choice([(32, 122, 46), (52, 152, 62), (84, 164, 56)])
        leaf(draw, x, y, size * rng.uniform(0.25, 0.35), rng.uniform(0, 2 * math.pi), color)
    return image


def stars(draw, size, rng, count, bottom):
    for _ in range(count):
        disc(draw, rng.uniform(0, size), rng.uniform(0, bottom), size * 0.019, (246, 246, 214))


def night(size, rng):
    image, draw, horizon = scenery(size, ((8, 10, 44), (30, 32, 86)), (22, 34, 40), rng)
    stars(draw, size, rng, 7, horizon)
    x, y, radius = corner(size, rng), size * 0.14, size * 0.08
    disc(draw, x, y, radius, (246, 242, 204))
    disc(draw, x + radius * 0.5, y - radius * 0.25, radius * 0.8, (12, 14, 50))
    return image


def building(draw, left, width, top, bottom, color):
    draw.rectangle([left, top, left + width, bottom], fill=color)
    pane = width / 4
    y = top + pane
    while y + pane < bottom:
        for column in (0.6, 2.3):
            draw.rectangle([left + column * pane, y, left + (column + 1) * pane, y + pane], fill=(250, 230, 140))
        y += 2 * pane


def city(size, rng):
    image, draw, horizon = scenery(size, ((216, 192, 178), (236, 216, 196)), (88, 88, 94), rng)
    left = -size * rng.uniform(0, 0.1)
    while left < size:
        width, height = size * rng.uniform(0.18, 0.24), size * rng.uniform(0.28, 0.46)
        color = rng.choice([(122, 112, 126), (92, 98, 118), (150, 120, 112)])
        building(draw, left, width, horizon - height, horizon, color)
        left += width + size * 0.015
    middle = (horizon + size) / 2
    draw.rectangle([0, middle - size * 0.018, size, middle + size * 0.018], fill=(236, 226, 130))
    return image


def meadow(size, rng):
    image, draw, horizon = scenery(size, ((106, 176, 242), (182, 222, 250)), (96, 182, 66), rng)
    for x in (rng.uniform(0.05, 0.3) * size, rng.uniform(0.7, 0.95) * size):
        disc(draw, x, size * rng.uniform(0.08, 0.2), size * 0.11, (250, 252, 255), flatten=0.45)
    for _ in range(8):
        color = rng.choice([(250, 240, 90), (255, 255, 255), (242, 112, 142)])
        disc(draw, rng.uniform(0, size), rng.uniform(horizon + size * 0.03, size), size * 0.024, color)
    return image


def space(size, rng):
    image = gradient(size, (6, 4, 16), (36, 10, 58))
    draw = ImageDraw.Draw(image)
    stars(draw, size, rng, 10, size)
    x, y, radius = corner(size, rng), size * 0.15, size * 0.09
    draw.polygon(arc_points(x, y, radius * 1.8, radius * 0.45), fill=(194, 164, 204))
    disc(draw, x, y, radius, rng.choice([(226, 122, 72), (112, 92, 204)]))
    return image


def indoors(size, rng):
    wall = jitter(rng.choice([(236, 208, 164), (216, 182, 172), (202, 206, 182)]), rng)
    image, draw, horizon = scenery(size, (wall, darken(wall, 0.9)), (150, 96, 52), rng)
    draw.rectangle([0, horizon - size * 0.01, size, horizon + size * 0.025], fill=(108, 64, 32))
    left = corner(size, rng) - size * 0.11
    draw.rectangle([left, size * 0.05, left + size * 0.22, size * 0.26], fill=(120, 84, 54))
    draw.rectangle([left + size * 0.025, size * 0.075, left + size * 0.195, size * 0.235], fill=(172, 216, 240))
    return image


CONTEXTS = {
    "plain": plain,
    "beach": beach,
    "snow": snow,
    "jungle": jungle,
    "night": night,
    "city": city,
    "meadow": meadow,
    "space": space,
    "indoors": indoors,
}
"""Name -> painter `(size in pixels, random.Random) -> RGB image`. Captions never name "plain", a studio backdrop."""

SHADOWLESS = {"plain", "night", "space"}
