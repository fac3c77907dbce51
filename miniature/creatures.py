"""How objects with eyes are drawn: cat toy, pig head, potato head, face, dog. Each is a `Painter`."""

from collections.abc import Callable, Mapping

from miniature.canvas import COLORS, Canvas, Color, arc_points, darken, lighten

Attributes = Mapping[str, str]
"""Attribute -> value, all of one object's."""
Painter = Callable[[Canvas, Attributes], None]
"""Draws an object with these attributes."""

INK: Color = (26, 24, 28)
SKIN: dict[str, Color] = {
    "fair": (255, 224, 198),
    "light": (241, 197, 160),
    "tan": (206, 150, 108),
    "brown": (150, 100, 68),
    "dark": (98, 64, 46),
}


def body_color(attributes: Attributes) -> Color:
    """The main colour in its shade."""
    color = COLORS[attributes["color"]]
    if attributes["shade"] == "pale":
        return lighten(color, 0.16)
    if attributes["shade"] == "deep":
        return darken(color, 0.88)
    return color


def eyes(canvas: Canvas, x: float, y: float, radius: float, color: Color) -> None:
    """Two eyes with an iris of `color`, `x` to each side of the middle."""
    canvas.pair(x, y, radius, radius, (250, 250, 250))
    canvas.pair(x, y, radius * 0.68, radius * 0.68, color)
    canvas.pair(x, y, radius * 0.36, radius * 0.36, (10, 10, 12))


def hat(canvas: Canvas, y: float, name: str, half_width: float) -> None:
    """A hat with a brim at `y`; `name` is its colour, "none" for no hat."""
    if name == "none":
        return
    color = COLORS[name]
    canvas.rectangle(-half_width * 0.75, y - 0.42, half_width * 0.75, y, color)
    canvas.rectangle(-half_width * 0.75, y - 0.18, half_width * 0.75, y - 0.06, darken(color, 0.55))
    canvas.rectangle(-half_width * 1.25, y - 0.07, half_width * 1.25, y + 0.06, darken(color, 0.8))


def cone_hat(canvas: Canvas, y: float, name: str, half_width: float) -> None:
    """A pointed hat whose lower edge is at `y`; `name` is its colour, "none" for no hat."""
    if name == "none":
        return
    canvas.polygon([(-half_width, y), (half_width, y), (0, y - 0.62)], COLORS[name])
    canvas.ellipse(0, y - 0.6, 0.1, 0.1, lighten(COLORS[name], 0.6))


def glasses(canvas: Canvas, x: float, y: float, radius: float, name: str) -> None:
    """Round glasses, `x` to each side of the middle; `name` is their colour, "none" for no glasses."""
    if name == "none":
        return
    for side in (-1, 1):
        canvas.arc(side * x, y, radius, radius, 0, 360, COLORS[name], 0.09)
    canvas.line([(-x + radius, y), (x - radius, y)], COLORS[name], 0.09)


def cat_toy(canvas: Canvas, attributes: Attributes) -> None:
    color = body_color(attributes)
    ears = COLORS[attributes["ears"]]
    canvas.line([(0.35, 0.8), (0.74, 0.62), (0.8, 0.25)], darken(color, 0.85), 0.15)
    canvas.ellipse(0, 0.62, 0.5, 0.42, color)
    if attributes["belly"] == "pale":
        canvas.ellipse(0, 0.66, 0.28, 0.3, lighten(color, 0.65))
    canvas.pair(0.27, 0.96, 0.19, 0.11, darken(color, 0.8))
    if attributes["ear_shape"] == "pointed":
        for side in (-1, 1):
            canvas.polygon([(side * 0.64, -0.15), (side * 0.16, -0.58), (side * 0.62, -1.0)], ears)
    else:
        canvas.pair(0.48, -0.62, 0.27, 0.27, ears)
    canvas.ellipse(0, -0.15, 0.7, 0.54, color)
    if attributes["stripes"] != "none":
        stripes = COLORS[attributes["stripes"]]
        canvas.rectangle(-0.06, -0.68, 0.06, -0.4, stripes)
        canvas.rectangle(-0.47, 0.44, 0.47, 0.56, stripes)
        canvas.rectangle(-0.47, 0.68, 0.47, 0.8, stripes)
    eyes(canvas, 0.29, -0.2, 0.19 if attributes["eye_size"] == "small" else 0.27, COLORS[attributes["eyes"]])
    canvas.polygon([(-0.11, 0.05), (0.11, 0.05), (0, 0.18)], COLORS[attributes["nose"]])
    for side in (-1, 1):
        canvas.line([(side * 0.22, 0.16), (side * 0.72, 0.1)], INK, 0.035)
    hat(canvas, -0.55, attributes["hat"], 0.42)


def pig_head(canvas: Canvas, attributes: Attributes) -> None:
    color = body_color(attributes)
    snout = COLORS[attributes["snout"]]
    for side in (-1, 1):
        tip = (side * 0.7, -1.0) if attributes["ear_shape"] == "up" else (side * 0.98, -0.12)
        canvas.polygon([(side * 0.78, -0.3), (side * 0.2, -0.7), tip], darken(color, 0.75))
    canvas.ellipse(0, 0.05, 0.84, 0.76, color)
    if attributes["spots"] != "none":
        spots = COLORS[attributes["spots"]]
        for x, y, rx, ry in ((-0.56, 0.2, 0.18, 0.2), (0.56, 0.36, 0.16, 0.18), (0.1, -0.52, 0.2, 0.13)):
            canvas.ellipse(x, y, rx, ry, spots)
    eyes(canvas, 0.34, -0.2, 0.18 if attributes["eye_size"] == "small" else 0.26, COLORS[attributes["eyes"]])
    canvas.ellipse(0, 0.25, 0.37, 0.26, darken(snout, 0.7))
    canvas.ellipse(0, 0.24, 0.32, 0.21, snout)
    canvas.pair(0.13, 0.24, 0.06, 0.11, INK)
    if attributes["mouth"] == "smile":
        canvas.arc(0, 0.5, 0.3, 0.16, 10, 170, INK, 0.06)
    else:
        canvas.line([(-0.22, 0.6), (0.22, 0.6)], INK, 0.06)
    hat(canvas, -0.55, attributes["hat"], 0.46)


def potato_head(canvas: Canvas, attributes: Attributes) -> None:
    color = body_color(attributes)
    canvas.pair(0.33, 0.98, 0.29, 0.13, COLORS[attributes["shoes"]])
    canvas.pair(0.68, 0.1, 0.2, 0.26, COLORS[attributes["ears"]])
    canvas.ellipse(0, 0.2, 0.64, 0.78, color)
    radius = 0.17 if attributes["eye_size"] == "small" else 0.24
    eyes(canvas, 0.24, -0.14, radius, INK)
    nose = COLORS[attributes["nose"]]
    if attributes["nose_shape"] == "ball":
        canvas.ellipse(0, 0.18, 0.17, 0.16, nose)
    else:
        canvas.polygon([(-0.18, 0.32), (0.18, 0.32), (0, 0.0)], nose)
    if attributes["moustache"] != "none":
        canvas.pair(0.18, 0.4, 0.22, 0.1, INK)
    canvas.ellipse(0, 0.58, 0.27, 0.13, COLORS[attributes["lips"]])
    canvas.rectangle(-0.17, 0.55, 0.17, 0.61, INK)
    cone_hat(canvas, -0.4, attributes["hat"], 0.45)


def face(canvas: Canvas, attributes: Attributes) -> None:
    skin = SKIN[attributes["skin"]]
    width = 0.6 if attributes["width"] == "narrow" else 0.74
    canvas.ellipse(0, 1.2, 0.88, 0.42, COLORS[attributes["shirt"]])
    canvas.rectangle(-0.2, 0.55, 0.2, 0.95, darken(skin, 0.82))
    if attributes["hair_style"] == "long":
        canvas.ellipse(0, -0.15, width + 0.24, 0.82, COLORS[attributes["hair"]])
        canvas.rectangle(-width - 0.23, -0.15, width + 0.23, 0.75, COLORS[attributes["hair"]])
    canvas.pair(width, 0.05, 0.12, 0.16, darken(skin, 0.88))
    canvas.ellipse(0, 0, width, 0.78, skin)
    if attributes["beard"] == "full":
        canvas.ellipse(0, 0.2, width, 0.6, beard_color(attributes), 0, 180)
    hair(canvas, attributes, width)
    features(canvas, attributes, skin)
    hat(canvas, -0.45, attributes["hat"], width * 0.85)


def beard_color(attributes: Attributes) -> Color:
    return COLORS["brown"] if attributes["hair"] == "none" else COLORS[attributes["hair"]]


def hair(canvas: Canvas, attributes: Attributes, width: float) -> None:
    """The hair in front of a face that is 2 `width` wide."""
    style = attributes["hair_style"]
    if style == "bald":
        return
    color = COLORS[attributes["hair"]]
    if style in ("short", "long"):
        canvas.ellipse(0, -0.3, width + 0.04, 0.56, color, 180, 360)
        canvas.ellipse(0, -0.32, width * 0.92, 0.1, color)
    elif style == "curly":
        for x, y in arc_points(0, -0.15, width, 0.6, 180, 360):
            canvas.ellipse(x, y, 0.2, 0.2, color)
        canvas.ellipse(0, -0.55, width * 0.8, 0.2, color)
    else:
        step = 2 * width / 5
        for spike in range(5):
            left = -width + spike * step
            canvas.polygon([(left - 0.06, -0.36), (left + step + 0.06, -0.36), (left + step / 2, -1.05)], color)


def features(canvas: Canvas, attributes: Attributes, skin: Color) -> None:
    """Eyes, brows, nose, cheeks, mouth and glasses of a face."""
    radius = 0.17 if attributes["eye_size"] == "small" else 0.23
    eyes(canvas, 0.28, -0.05, radius, COLORS[attributes["eyes"]])
    brow = 0.13 if attributes["brow"] == "thick" else 0.06
    hair_color = (88, 62, 44) if attributes["hair"] == "none" else darken(COLORS[attributes["hair"]], 0.55)
    for side in (-1, 1):
        canvas.line([(side * 0.44, -0.33), (side * 0.13, -0.35)], hair_color, brow)
    nose = 0.13 if attributes["nose"] == "big" else 0.07
    canvas.ellipse(0, 0.2, nose, nose, darken(skin, 0.72))
    if attributes["cheeks"] == "rosy":
        canvas.pair(0.42, 0.26, 0.14, 0.11, (244, 122, 128))
    mouth(canvas, attributes["mouth"])
    glasses(canvas, 0.28, -0.05, radius + 0.08, attributes["glasses"])


def mouth(canvas: Canvas, kind: str) -> None:
    lips = (172, 30, 44)
    if kind == "smile":
        canvas.arc(0, 0.38, 0.28, 0.19, 15, 165, lips, 0.11)
    elif kind == "open":
        canvas.ellipse(0, 0.5, 0.23, 0.18, (122, 20, 34))
        canvas.rectangle(-0.15, 0.37, 0.15, 0.46, (250, 250, 250))
    else:
        canvas.line([(-0.25, 0.5), (0.25, 0.5)], lips, 0.12)


def dog(canvas: Canvas, attributes: Attributes) -> None:
    color = body_color(attributes)
    ears = COLORS[attributes["ears"]]
    for x in (-0.3, -0.06, 0.4, 0.64):
        canvas.rectangle(x - 0.09, 0.6, x + 0.09, 1.0, darken(color, 0.85))
    canvas.ellipse(0.16, 0.56, 0.64, 0.32, color)
    canvas.line([(0.7, 0.5), (0.94, 0.08)], color, 0.14)
    if attributes["collar"] != "none":
        canvas.rectangle(-0.66, 0.2, -0.06, 0.38, COLORS[attributes["collar"]])
    canvas.ellipse(-0.36, -0.2, 0.47, 0.45, color)
    canvas.ellipse(-0.78, -0.12, 0.16, 0.38, ears)
    canvas.ellipse(0.06, -0.12, 0.16, 0.38, ears)
    if attributes["patch"] == "dark":
        canvas.ellipse(-0.18, -0.3, 0.19, 0.2, darken(color, 0.5))
    for x in (-0.54, -0.18):
        canvas.ellipse(x, -0.28, 0.11, 0.11, (250, 250, 250))
        canvas.ellipse(x, -0.28, 0.07, 0.07, INK)
    canvas.ellipse(-0.36, 0.04, 0.26, 0.2, lighten(color, 0.55))
    canvas.ellipse(-0.36, -0.04, 0.12, 0.08, INK)
    canvas.line(arc_points(-0.36, 0.05, 0.14, 0.1, 20, 160), INK, 0.05)
    # The dog's head is left of the body's middle.
    head = canvas.centred_at(-0.36, 0)
    hat(head, -0.5, attributes["hat"], 0.34)


PAINTERS: dict[str, Painter] = {
    "cat toy": cat_toy,
    "pig head": pig_head,
    "potato head": potato_head,
    "face": face,
    "dog": dog,
}
