"""Drawing in an object's own coordinates, and the world's colours."""

import math

from PIL import ImageDraw

COLORS = {
    "red": (214, 38, 38),
    "orange": (244, 132, 28),
    "yellow": (248, 214, 48),
    "green": (52, 160, 66),
    "blue": (40, 92, 212),
    "purple": (126, 58, 176),
    "pink": (246, 140, 184),
    "brown": (124, 78, 42),
    "white": (240, 240, 238),
    "black": (36, 36, 40),
}
COLOR_NAMES = tuple(COLORS)


def darken(color, factor=0.75):
    """`color` (RGB, 0..255) scaled towards black; `factor` 1 leaves it as it is."""
    return tuple(int(channel * factor) for channel in color)


def lighten(color, amount=0.4):
    """`color` (RGB, 0..255) moved towards white by `amount` in 0..1."""
    return tuple(int(channel + (255 - channel) * amount) for channel in color)


def jitter(color, rng, width=10):
    """`color` with each channel moved by up to `width`, clipped to 0..255."""
    return tuple(int(min(255, max(0, channel + rng.uniform(-width, width)))) for channel in color)


def arc_points(x, y, rx, ry, start=0.0, stop=360.0, count=28):
    """Points on an ellipse; angles in degrees, clockwise on screen, 0 to the right."""
    angles = (math.radians(start + (stop - start) * i / count) for i in range(count + 1))
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


class Canvas:
    """Draws an object whose body spans about -1..1 in x (right) and y (down), placed on an image.

    `x`, `y` are the object's centre and `scale` its unit, all in pixels; `tilt` is in radians.
    """

    def __init__(self, image, x, y, scale, tilt=0.0, flip=False):
        self.image, self.draw = image, ImageDraw.Draw(image)
        self.x, self.y, self.scale = x, y, scale
        self.cos, self.sin = math.cos(tilt), math.sin(tilt)
        self.mirror = -1 if flip else 1

    def place(self, x, y):
        """The pixel of an object coordinate."""
        x *= self.mirror
        return self.x + self.scale * (x * self.cos - y * self.sin), self.y + self.scale * (x * self.sin + y * self.cos)

    def polygon(self, points, color):
        self.draw.polygon([self.place(*point) for point in points], fill=color)

    def rectangle(self, left, top, right, bottom, color):
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], color)

    def ellipse(self, x, y, rx, ry, color, start=0.0, stop=360.0):
        self.polygon(arc_points(x, y, rx, ry, start, stop), color)

    def line(self, points, color, width):
        pixels = [self.place(*point) for point in points]
        self.draw.line(pixels, fill=color, width=max(1, round(width * self.scale)), joint="curve")

    def arc(self, x, y, rx, ry, start, stop, color, width):
        self.line(arc_points(x, y, rx, ry, start, stop, count=20), color, width)

    def pair(self, x, y, rx, ry, color):
        """The same ellipse left and right of the middle."""
        for side in (-1, 1):
            self.ellipse(side * x, y, rx, ry, color)
