"""The backgrounds of scenes: one painter for each context, `painter(size, rng)`.

`size` is the side of the image in pixels. `rng` decides what differs between two backgrounds of one context.
"""

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from miniature.canvas import Color, arc_points, darken, jitter, lighten

Draw = ImageDraw.ImageDraw
BACKDROPS: tuple[Color, ...] = ((226, 222, 214), (202, 213, 226), (236, 216, 200), (206, 226, 208), (192, 188, 204))


def gradient(size: int, top: Color, bottom: Color) -> Image.Image:
    """A square RGB image that fades from `top` to `bottom`."""
    rows = np.linspace(np.array(top), np.array(bottom), size)[:, None]
    return Image.fromarray(np.repeat(rows, size, axis=1).astype(np.uint8))


def scenery(
    size: int, sky_top: Color, sky_bottom: Color, ground: Color, rng: random.Random
) -> tuple[Image.Image, Draw, float]:
    """A sky over a ground. Returns the image, what draws on it, and the horizon's y in pixels."""
    image = gradient(size, sky_top, sky_bottom)
    draw = ImageDraw.Draw(image)
    horizon = size * rng.uniform(0.5, 0.6)
    draw.rectangle([0, horizon, size, size], fill=ground)
    return image, draw, horizon


def disc(draw: Draw, x: float, y: float, radius: float, color: Color, flatten: float = 1.0) -> None:
    """A filled circle, or with `flatten` below 1 a wide ellipse."""
    draw.ellipse([x - radius, y - radius * flatten, x + radius, y + radius * flatten], fill=color)


def near_an_edge(size: int, rng: random.Random) -> float:
    """An x near the left or the right edge, where the object seldom is."""
    left = rng.uniform(0.08, 0.2)
    right = rng.uniform(0.8, 0.92)
    return size * rng.choice([left, right])


def plain(size: int, rng: random.Random) -> Image.Image:
    color = jitter(rng.choice(BACKDROPS), rng)
    return gradient(size, lighten(color, 0.2), darken(color, 0.9))


def beach(size: int, rng: random.Random) -> Image.Image:
    image, draw, horizon = scenery(size, (120, 196, 246), (192, 230, 250), (240, 216, 152), rng)
    draw.rectangle([0, horizon - size * 0.13, size, horizon], fill=(24, 122, 196))
    disc(draw, near_an_edge(size, rng), size * 0.13, size * 0.075, (255, 236, 120))
    return image


def snow(size: int, rng: random.Random) -> Image.Image:
    image, draw, horizon = scenery(size, (184, 200, 216), (216, 226, 236), (248, 250, 253), rng)
    left_tree = rng.uniform(0.0, 0.25) * size
    right_tree = rng.uniform(0.75, 1.0) * size
    for x in (left_tree, right_tree):
        half = size * 0.1
        height = size * rng.uniform(0.22, 0.3)
        draw.polygon([(x - half, horizon), (x + half, horizon), (x, horizon - height)], fill=(92, 132, 122))
    for _ in range(10):
        disc(draw, rng.uniform(0, size), rng.uniform(0, size), size * 0.022, (255, 255, 255))
    return image


def leaf(draw: Draw, x: float, y: float, length: float, angle: float, color: Color) -> None:
    """A rhombus from (x, y) along `angle` (radians)."""
    along_x = math.cos(angle) * length
    along_y = math.sin(angle) * length
    across_x = -math.sin(angle) * length * 0.22
    across_y = math.cos(angle) * length * 0.22
    middle_x = x + along_x / 2
    middle_y = y + along_y / 2
    tip = (x + along_x, y + along_y)
    one_side = (middle_x + across_x, middle_y + across_y)
    other_side = (middle_x - across_x, middle_y - across_y)
    draw.polygon([(x, y), one_side, tip, other_side], fill=color)


def jungle(size: int, rng: random.Random) -> Image.Image:
    image, draw, horizon = scenery(size, (18, 74, 34), (36, 106, 46), (72, 62, 30), rng)
    for _ in range(8):
        x = rng.uniform(0, size)
        y = rng.uniform(0, horizon)
        color = rng.choice([(32, 122, 46), (52, 152, 62), (84, 164, 56)])
        length = size * rng.uniform(0.25, 0.35)
        angle = rng.uniform(0, 2 * math.pi)
        leaf(draw, x, y, length, angle, color)
    return image


def stars(draw: Draw, size: int, rng: random.Random, count: int, bottom: float) -> None:
    """`count` stars above the y `bottom`."""
    for _ in range(count):
        disc(draw, rng.uniform(0, size), rng.uniform(0, bottom), size * 0.019, (246, 246, 214))


def night(size: int, rng: random.Random) -> Image.Image:
    image, draw, horizon = scenery(size, (8, 10, 44), (30, 32, 86), (22, 34, 40), rng)
    stars(draw, size, rng, 7, horizon)
    x = near_an_edge(size, rng)
    y = size * 0.14
    radius = size * 0.08
    # A crescent: a light disc with a dark one over a part of it.
    disc(draw, x, y, radius, (246, 242, 204))
    disc(draw, x + radius * 0.5, y - radius * 0.25, radius * 0.8, (12, 14, 50))
    return image


def building(draw: Draw, left: float, width: float, top: float, bottom: float, color: Color) -> None:
    """A house front with two columns of lit windows."""
    draw.rectangle([left, top, left + width, bottom], fill=color)
    pane = width / 4
    y = top + pane
    while y + pane < bottom:
        for column in (0.6, 2.3):
            draw.rectangle([left + column * pane, y, left + (column + 1) * pane, y + pane], fill=(250, 230, 140))
        y += 2 * pane


def city(size: int, rng: random.Random) -> Image.Image:
    image, draw, horizon = scenery(size, (216, 192, 178), (236, 216, 196), (88, 88, 94), rng)
    left = -size * rng.uniform(0, 0.1)
    while left < size:
        width = size * rng.uniform(0.18, 0.24)
        height = size * rng.uniform(0.28, 0.46)
        color = rng.choice([(122, 112, 126), (92, 98, 118), (150, 120, 112)])
        building(draw, left, width, horizon - height, horizon, color)
        left += width + size * 0.015
    middle = (horizon + size) / 2
    draw.rectangle([0, middle - size * 0.018, size, middle + size * 0.018], fill=(236, 226, 130))
    return image


def meadow(size: int, rng: random.Random) -> Image.Image:
    image, draw, horizon = scenery(size, (106, 176, 242), (182, 222, 250), (96, 182, 66), rng)
    left_cloud = rng.uniform(0.05, 0.3) * size
    right_cloud = rng.uniform(0.7, 0.95) * size
    for x in (left_cloud, right_cloud):
        disc(draw, x, size * rng.uniform(0.08, 0.2), size * 0.11, (250, 252, 255), flatten=0.45)
    for _ in range(8):
        color = rng.choice([(250, 240, 90), (255, 255, 255), (242, 112, 142)])
        x = rng.uniform(0, size)
        y = rng.uniform(horizon + size * 0.03, size)
        disc(draw, x, y, size * 0.024, color)
    return image


def space(size: int, rng: random.Random) -> Image.Image:
    image = gradient(size, (6, 4, 16), (36, 10, 58))
    draw = ImageDraw.Draw(image)
    stars(draw, size, rng, 10, size)
    x = near_an_edge(size, rng)
    y = size * 0.15
    radius = size * 0.09
    draw.polygon(arc_points(x, y, radius * 1.8, radius * 0.45), fill=(194, 164, 204))
    disc(draw, x, y, radius, rng.choice([(226, 122, 72), (112, 92, 204)]))
    return image


def indoors(size: int, rng: random.Random) -> Image.Image:
    wall = jitter(rng.choice([(236, 208, 164), (216, 182, 172), (202, 206, 182)]), rng)
    image, draw, horizon = scenery(size, wall, darken(wall, 0.9), (150, 96, 52), rng)
    draw.rectangle([0, horizon - size * 0.01, size, horizon + size * 0.025], fill=(108, 64, 32))
    left = near_an_edge(size, rng) - size * 0.11
    draw.rectangle([left, size * 0.05, left + size * 0.22, size * 0.26], fill=(120, 84, 54))
    draw.rectangle([left + size * 0.025, size * 0.075, left + size * 0.195, size * 0.235], fill=(172, 216, 240))
    return image


CONTEXTS: dict[str, Callable[[int, random.Random], Image.Image]] = {
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
"""Name -> painter of an RGB image. "plain" is a studio backdrop, which captions never name."""

SHADOWLESS = {"plain", "night", "space"}
"""Contexts in which the object casts no shadow."""
