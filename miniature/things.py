"""How objects without eyes are drawn: ball, house, tree, car, mug. Each is a `Painter`."""

from miniature.canvas import COLORS, Canvas, Color, arc_points, darken, lighten
from miniature.creatures import INK, Attributes, Painter, body_color

GLASS: Color = (176, 218, 242)


def ball(canvas: Canvas, attributes: Attributes) -> None:
    color = body_color(attributes)
    pattern = attributes["pattern"]
    canvas.ellipse(0, 0.15, 0.8, 0.8, color)
    if pattern == "stripe":
        canvas.rectangle(-0.78, 0.0, 0.78, 0.3, COLORS[attributes["second"]])
    elif pattern == "half":
        canvas.ellipse(0, 0.15, 0.8, 0.8, COLORS[attributes["second"]], 0, 180)
    elif pattern == "star":
        outer = arc_points(0, 0.15, 0.56, 0.56, -90, 270, count=5)[:5]
        inner = arc_points(0, 0.15, 0.24, 0.24, -54, 306, count=5)[:5]
        star = [point for outer_and_inner in zip(outer, inner, strict=True) for point in outer_and_inner]
        canvas.polygon(star, COLORS[attributes["second"]])
    canvas.ellipse(-0.3, -0.24, 0.16, 0.11, lighten(color, 0.7))


def house(canvas: Canvas, attributes: Attributes) -> None:
    if attributes["chimney"] == "brick":
        canvas.rectangle(0.3, -0.9, 0.54, -0.3, (126, 70, 58))
    canvas.rectangle(-0.72, -0.2, 0.72, 0.96, body_color(attributes))
    canvas.polygon([(-0.94, -0.16), (0.94, -0.16), (0, -0.92)], COLORS[attributes["roof"]])
    canvas.rectangle(-0.18, 0.36, 0.18, 0.96, COLORS[attributes["door"]])
    windows = (-0.45, 0.45) if attributes["windows"] == "two" else (0.45,)
    for x in windows:
        canvas.rectangle(x - 0.17, 0.02, x + 0.17, 0.34, (250, 250, 250))
        canvas.rectangle(x - 0.12, 0.07, x + 0.12, 0.29, GLASS)


def tree(canvas: Canvas, attributes: Attributes) -> None:
    color = body_color(attributes)
    canvas.rectangle(-0.14, 0.3, 0.14, 1.0, (106, 68, 38))
    if attributes["shape"] == "round":
        canvas.ellipse(0, -0.2, 0.7, 0.68, color)
    elif attributes["shape"] == "pine":
        for level, y in enumerate((0.5, 0.1, -0.3)):
            half = 0.76 - 0.15 * level
            canvas.polygon([(-half, y), (half, y), (0, y - 0.64)], darken(color, 0.84 + 0.08 * level))
    else:
        canvas.pair(0.4, 0.06, 0.4, 0.36, color)
        canvas.ellipse(0, -0.35, 0.52, 0.48, color)
        canvas.ellipse(0, 0.1, 0.4, 0.3, color)
    if attributes["fruit"] != "none":
        for x, y in ((-0.3, 0.05), (0.3, 0.12), (0, -0.38), (0.02, 0.22)):
            canvas.ellipse(x, y, 0.11, 0.11, COLORS[attributes["fruit"]])


def car(canvas: Canvas, attributes: Attributes) -> None:
    color = body_color(attributes)
    if attributes["body"] == "round":
        canvas.ellipse(0, 0.14, 0.6, 0.54, color, 180, 360)
        canvas.ellipse(0, 0.14, 0.46, 0.4, GLASS, 180, 360)
        canvas.rectangle(-0.05, -0.36, 0.05, 0.15, color)
    else:
        canvas.rectangle(-0.56, -0.38, 0.52, 0.15, color)
        canvas.rectangle(-0.46, -0.27, -0.07, 0.1, GLASS)
        canvas.rectangle(0.04, -0.27, 0.42, 0.1, GLASS)
    canvas.polygon([(-0.98, 0.6), (-0.95, 0.18), (-0.8, 0.1), (0.85, 0.1), (0.98, 0.26), (0.98, 0.6)], color)
    if attributes["stripe"] != "none":
        canvas.rectangle(-0.96, 0.27, 0.97, 0.42, COLORS[attributes["stripe"]])
    canvas.ellipse(0.9, 0.26, 0.09, 0.09, (255, 246, 150))
    canvas.pair(0.54, 0.62, 0.26, 0.26, INK)
    canvas.pair(0.54, 0.62, 0.13, 0.13, lighten(COLORS[attributes["hubs"]], 0.15))


def mug(canvas: Canvas, attributes: Attributes) -> None:
    color = body_color(attributes)
    canvas.arc(0.54, 0.3, 0.32, 0.32, -85, 85, darken(color, 0.85), 0.15)
    canvas.polygon([(-0.62, -0.25), (0.62, -0.25), (0.48, 0.92), (-0.48, 0.92)], color)
    canvas.ellipse(0, -0.25, 0.62, 0.15, darken(color, 0.7))
    canvas.ellipse(0, -0.23, 0.5, 0.1, (84, 48, 26))
    if attributes["band"] != "none":
        canvas.polygon([(-0.575, 0.15), (0.575, 0.15), (0.53, 0.5), (-0.53, 0.5)], COLORS[attributes["band"]])
    if attributes["steam"] == "rising":
        for x in (-0.22, 0.16):
            canvas.line([(x, -0.5), (x + 0.1, -0.64), (x - 0.03, -0.8), (x + 0.08, -0.96)], (222, 222, 228), 0.08)


PAINTERS: dict[str, Painter] = {"ball": ball, "house": house, "tree": tree, "car": car, "mug": mug}
