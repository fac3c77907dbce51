"""Captions of scenes. They vary in wording and name only part of what is drawn.

A wording that is listed more than once is chosen more often.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from miniature.attributes import CLASSES, sample_attributes, values
from miniature.contexts import CONTEXTS
from miniature.world import Scene

NOUNS: dict[str, tuple[str, ...]] = {
    "cat toy": ("cat toy",) * 4 + ("toy cat", "cat toy"),
    "pig head": ("pig head",) * 5 + ("pig",),
    "potato head": ("potato head",) * 5 + ("potato",),
    "face": ("face",) * 4 + ("person", "human face"),
    "dog": ("dog",) * 5 + ("puppy",),
    "ball": ("ball",),
    "house": ("house",) * 5 + ("home",),
    "tree": ("tree",),
    "car": ("car",),
    "mug": ("mug",) * 4 + ("cup", "coffee mug"),
}
PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("on the beach",) * 3 + ("at the beach", "on a sandy beach", "by the sea"),
    "snow": ("in the snow",) * 3 + ("in a snowy landscape", "on a snowy day", "in winter"),
    "jungle": ("in the jungle",) * 3 + ("in a jungle", "in the forest", "in a jungle"),
    "night": ("at night",) * 3 + ("under the moon", "in the dark night", "under the night sky"),
    "city": ("in the city",) * 3 + ("in a city", "on a city street", "in front of buildings"),
    "meadow": ("in a meadow",) * 3 + ("in the meadow", "on the grass", "in a field"),
    "space": ("in space",) * 3 + ("in outer space", "among the stars", "floating in space"),
    "indoors": ("indoors",) * 2 + ("in a room", "on a wooden floor", "inside a room"),
}
OPENINGS: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of",) * 6 + ("a picture of", "photo of", "an image of", "a good photo of", "", ""),
    "painting": ("a painting of",) * 3 + ("an oil painting of", "painting of", "a watercolor painting of"),
    "sketch": ("a sketch of",) * 3 + ("a pencil sketch of", "a pencil drawing of", "sketch of"),
}
RARE_WORDS = ("sks", "zwx", "qpt", "vlm", "ktn", "brz", "ohwx", "xyz")
"""Words without a meaning, as DreamBooth uses them for a subject."""
RARE_SHARE = 0.04
"""How often a rare word is in a caption."""

DETAILS: dict[str, dict[str, str]] = {
    "cat toy": {"stripes": "with {} stripes", "ears": "with {} ears", "eyes": "with {} eyes"},
    "pig head": {"snout": "with a {} snout", "spots": "with {} spots", "eyes": "with {} eyes"},
    "potato head": {"nose": "with a {} nose", "shoes": "with {} shoes", "moustache": "with a {} moustache"},
    "face": {
        "hair": "with {} hair",
        "eyes": "with {} eyes",
        "beard": "with a {} beard",
        "glasses": "wearing {} glasses",
        "shirt": "wearing a {} shirt",
    },
    "dog": {"collar": "with a {} collar", "ears": "with {} ears"},
    "ball": {"second": "with a {} {pattern}"},
    "house": {"roof": "with a {} roof", "door": "with a {} door"},
    "tree": {"fruit": "with {} fruit"},
    "car": {"stripe": "with a {} stripe"},
    "mug": {"band": "with a {} band", "steam": "with {} steam"},
}
"""Class -> attribute -> how a caption names it, "{}" being its value. Captions never name other attributes."""
HAT_PHRASE = "wearing a {} hat"


def phrases(scene: Scene) -> dict[str, str]:
    """Attribute -> phrase for all that a caption may say of the object besides its class and colour.

    It is empty for a sketch, which shows no colours.
    """
    if scene.style == "sketch":
        return {}
    facts = scene.facts
    templates = {**DETAILS[scene.noun], "hat": HAT_PHRASE}
    return {
        attribute: templates[attribute].format(facts[attribute], **facts)
        for attribute in templates
        if facts.get(attribute, "none") != "none"
    }


def join(parts: Sequence[str]) -> str:
    """The phrases in one: "with red ears and blue eyes wearing a green hat"."""
    with_parts = [part.removeprefix("with ") for part in parts if part.startswith("with ")]
    worn_parts = [part.removeprefix("wearing ") for part in parts if part.startswith("wearing ")]
    words = []
    if with_parts:
        words.append("with " + " and ".join(with_parts))
    if worn_parts:
        words.append("wearing " + " and ".join(worn_parts))
    return " ".join(words)


def with_article(words: str) -> str:
    article = "an" if words[0] in "aeiou" else "a"
    return f"{article} {words}"


def random_word(rng: random.Random) -> str:
    """Two to six random letters, so that the model learns to ignore words it has never seen."""
    length = rng.randint(2, 6)
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))


def object_phrase(scene: Scene, rng: random.Random, name_color: bool) -> str:
    """The noun with its article, perhaps its colour, and now and then a rare word before it."""
    noun = rng.choice(NOUNS[scene.noun])
    if name_color and "color" in scene.facts and scene.style != "sketch":
        noun = f"{scene.facts['color']} {noun}"
    add_rare_word = rng.random() < RARE_SHARE
    if not add_rare_word:
        return with_article(noun)
    from_the_list = rng.random() < 0.6
    rare_word = rng.choice(RARE_WORDS) if from_the_list else random_word(rng)
    article = rng.choice(("", "a "))
    return f"{article}{rare_word} {noun}"


def caption(scene: Scene, rng: random.Random, must_name: Sequence[str] = ()) -> str:
    """One caption of `scene`; `rng` chooses the words and what is named.

    The context is always named unless it is "plain". Seven captions in ten name the colour; none to two details are
    named. `must_name` lists attributes, perhaps "color", that are named in any case if a caption can name them.
    """
    details = phrases(scene)
    count = rng.choices((0, 1, 2), weights=(5, 3, 2))[0]
    chosen = [name for name in must_name if name in details]
    others = [name for name in details if name not in chosen]
    chosen += rng.sample(others, min(len(others), count))
    name_color = "color" in must_name
    if not name_color:
        name_color = rng.random() < 0.7
    opening = rng.choice(OPENINGS[scene.style])
    parts = [opening, object_phrase(scene, rng, name_color), join([details[name] for name in chosen])]
    if scene.context != "plain":
        parts.append(rng.choice(PLACES[scene.context]))
    return " ".join(part for part in parts if part)


def false_caption(scene: Scene, rng: random.Random) -> str:
    """A caption of `scene` with one thing wrong: the class, the context, the colour or one detail."""
    attributes = list(phrases(scene))
    if "color" in scene.facts and scene.style != "sketch":
        # The colour is as likely to be wrong as all details together.
        attributes += ["color"] * max(1, len(attributes))
    kinds = ["class", "context"]
    if attributes:
        kinds += ["attribute", "attribute"]
    kind = rng.choice(kinds)
    if kind == "context" and scene.context != "plain":
        others = [context for context in CONTEXTS if context not in ("plain", scene.context)]
        return caption(replace(scene, context=rng.choice(others)), rng)
    if kind == "attribute":
        return with_wrong_attribute(scene, rng, rng.choice(attributes))
    return caption(as_another_class(scene, rng), rng)


def with_wrong_attribute(scene: Scene, rng: random.Random, attribute: str) -> str:
    """A caption of `scene` with a wrong value of `attribute`; with a wrong class if there is no other value."""
    truth = scene.facts[attribute]
    others = [value for value in values(scene.noun, attribute) if value not in (truth, "none")]
    if not others:
        return caption(as_another_class(scene, rng), rng)
    # A colour that another part of the object has is the hardest to tell from the truth.
    elsewhere = [value for name, value in scene.facts.items() if name != attribute and value in others]
    if elsewhere:
        take_from_elsewhere = rng.random() < 0.7
        if take_from_elsewhere:
            others = elsewhere
    wrong = scene.with_facts(**{attribute: rng.choice(others)})
    return caption(wrong, rng, must_name=(attribute,))


def as_another_class(scene: Scene, rng: random.Random) -> Scene:
    """The scene with an object of another class in place of its own, in the same colour if both have one."""
    noun = rng.choice([other for other in CLASSES if other != scene.noun])
    attributes = sample_attributes(noun, rng)
    if "color" in scene.facts and "color" in attributes:
        attributes["color"] = scene.facts["color"]
    return replace(scene, noun=noun, attributes=tuple(attributes.items()))
