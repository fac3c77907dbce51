"""Drawing in an object's own coordinates, and the world's colours."""

import math
import random
from collections.abc import Sequence

from PIL import Image, ImageDraw

Color = tuple[int, int, int]
"""Red, green and blue in 0..255."""
Point = tuple[float, float]
"""x to the right and y down."""

COLORS: dict[str, Color] = {
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


def darken(color: Color, factor: float = 0.75) -> Color:
    """`color` scaled towards black; `factor` 1 leaves it as it is."""
    red, green, blue = color
    return int(red * factor), int(green * factor), int(blue * factor)


def lighten(color: Color, amount: float = 0.4) -> Color:
    """`color` moved towards white by `amount` in 0..1."""

    def lighter(channel: int) -> int:
        return int(channel + (255 - channel) * amount)

    red, green, blue = color
    return lighter(red), lighter(green), lighter(blue)


def jitter(color: Color, rng: random.Random, width: float = 10) -> Color:
    """`color` with each channel moved by up to `width`, clipped to 0..255."""

    def moved(channel: int) -> int:
        return int(min(255, max(0, channel + rng.uniform(-width, width))))

    red, green, blue = color
    return moved(red), moved(green), moved(blue)


def arc_points(
    x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0, count: int = 28
) -> list[Point]:
    """Points on an ellipse around (x, y); angles in degrees, clockwise on screen, 0 to the right."""
    angles = (math.radians(start + (stop - start) * i / count) for i in range(count + 1))
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


class Canvas:
    """Draws an object on an image. The object's body spans about -1..1 in x (right) and y (down).

    `x`, `y` are the object's centre and `scale` its unit, all in pixels; `tilt` is in radians.
    """

    def __init__(
        self, image: Image.Image, x: float, y: float, scale: float, tilt: float = 0.0, flip: bool = False
    ) -> None:
        self.image = image
        self.draw = ImageDraw.Draw(image)
        self.x = x
        self.y = y
        self.scale = scale
        self.cos = math.cos(tilt)
        self.sin = math.sin(tilt)
        self.flip = flip

    def pixel(self, x: float, y: float) -> Point:
        """Where on the image an object coordinate is, in pixels."""
        if self.flip:
            x = -x
        right = self.x + self.scale * (x * self.cos - y * self.sin)
        down = self.y + self.scale * (x * self.sin + y * self.cos)
        return right, down

    def centred_at(self, x: float, y: float) -> "Canvas":
        """A canvas like this one whose origin is at the object coordinate (x, y)."""
        tilt = math.atan2(self.sin, self.cos)
        return Canvas(self.image, *self.pixel(x, y), self.scale, tilt, self.flip)

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        self.draw.polygon([self.pixel(x, y) for x, y in points], fill=color)

    def rectangle(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], color)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, color: Color, start: float = 0.0, stop: float = 360.0
    ) -> None:
        """A filled ellipse around (x, y), or the part of it between two angles in degrees."""
        self.polygon(arc_points(x, y, rx, ry, start, stop), color)

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        pixels = [self.pixel(x, y) for x, y in points]
        self.draw.line(pixels, fill=color, width=max(1, round(width * self.scale)), joint="curve")

    def arc(
        self, x: float, y: float, rx: float, ry: float, start: float, stop: float, color: Color, width: float
    ) -> None:
        self.line(arc_points(x, y, rx, ry, start, stop, count=20), color, width)

    def pair(self, x: float, y: float, rx: float, ry: float, color: Color) -> None:
        """The same ellipse left and right of the middle."""
        for side in (-1, 1):
            self.ellipse(side * x, y, rx, ry, color)
