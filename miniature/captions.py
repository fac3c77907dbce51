"""What people would call a scene: captions that vary in wording and name only part of what is drawn."""

from dataclasses import replace

from miniature.attributes import CLASSES, sample_attributes, values
from miniature.contexts import CONTEXTS

NOUNS = {
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
PLACES = {
    "beach": ("on the beach",) * 3 + ("at the beach", "on a sandy beach", "by the sea"),
    "snow": ("in the snow",) * 3 + ("in a snowy landscape", "on a snowy day", "in winter"),
    "jungle": ("in the jungle",) * 3 + ("in a jungle", "in the forest", "in a jungle"),
    "night": ("at night",) * 3 + ("under the moon", "in the dark night", "under the night sky"),
    "city": ("in the city",) * 3 + ("in a city", "on a city street", "in front of buildings"),
    "meadow": ("in a meadow",) * 3 + ("in the meadow", "on the grass", "in a field"),
    "space": ("in space",) * 3 + ("in outer space", "among the stars", "floating in space"),
    "indoors": ("indoors",) * 2 + ("in a room", "on a wooden floor", "inside a room"),
}
OPENINGS = {
    "photo": ("a photo of",) * 6 + ("a picture of", "photo of", "an image of", "a good photo of", "", ""),
    "painting": ("a painting of",) * 3 + ("an oil painting of", "painting of", "a watercolor painting of"),
    "sketch": ("a sketch of",) * 3 + ("a pencil sketch of", "a pencil drawing of", "sketch of"),
}
RARE_WORDS = ("sks", "zwx", "qpt", "vlm", "ktn", "brz", "ohwx", "xyz")
RARE_SHARE = 0.04

# What may be said of each class besides its colour; "{}" is the attribute's value. What is missing here is never said.
DETAILS = {
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
HAT_PHRASE = "wearing a {} hat"


def phrases(scene):
    """What can be said of the object besides class and colour: attribute -> phrase. A sketch has no colours."""
    if scene.style == "sketch":
        return {}
    facts = scene.facts
    templates = {**DETAILS[scene.noun], "hat": HAT_PHRASE}
    return {
        attribute: templates[attribute].format(facts[attribute], **facts)
        for attribute in templates
        if facts.get(attribute, "none") != "none"
    }


def join(parts):
    """Phrases as a person strings them: "with red ears and blue eyes wearing a green hat"."""
    having = [part.removeprefix("with ") for part in parts if part.startswith("with ")]
    wearing = [part.removeprefix("wearing ") for part in parts if part.startswith("wearing ")]
    words = ["with " + " and ".join(having)] if having else []
    return " ".join(words + (["wearing " + " and ".join(wearing)] if wearing else []))


def article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def random_word(rng):
    """A made-up word, so that words nobody trained on do little harm."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 6)))


def subject_phrase(scene, rng, with_color):
    """The noun with its colour, its article, and at times a rare word before it."""
    noun = rng.choice(NOUNS[scene.noun])
    if with_color and "color" in scene.facts and scene.style != "sketch":
        noun = f"{scene.facts['color']} {noun}"
    if rng.random() < RARE_SHARE:
        rare = rng.choice(RARE_WORDS) if rng.random() < 0.6 else random_word(rng)
        return rng.choice(("", "a ")) + f"{rare} {noun}"
    return article(noun)


def caption(scene, rng, must_name=()):
    """One caption of `scene`, worded by `rng` (random.Random).

    The context is always named unless it is "plain"; the colour mostly; up to two details at times. `must_name` lists
    attributes that are named for sure if they can be ("color" among them).
    """
    sayable = phrases(scene)
    count = rng.choices((0, 1, 2), weights=(5, 3, 2))[0]
    chosen = [name for name in must_name if name in sayable]
    others = [name for name in sayable if name not in chosen]
    chosen += rng.sample(others, min(len(others), count))
    with_color = "color" in must_name or rng.random() < 0.7
    parts = [rng.choice(OPENINGS[scene.style]), subject_phrase(scene, rng, with_color)]
    parts.append(join([sayable[name] for name in chosen]))
    if scene.context != "plain":
        parts.append(rng.choice(PLACES[scene.context]))
    return " ".join(part for part in parts if part)


def false_caption(scene, rng):
    """A caption of `scene` with one fact wrong: its class, its context, its colour or one detail."""
    sayable = list(phrases(scene))
    if "color" in scene.facts and scene.style != "sketch":
        # As often as all details together.
        sayable += ["color"] * max(1, len(sayable))
    kind = rng.choice(["class", "context"] + (["attribute", "attribute"] if sayable else []))
    if kind == "context" and scene.context != "plain":
        others = [context for context in CONTEXTS if context not in ("plain", scene.context)]
        return caption(replace(scene, context=rng.choice(others)), rng)
    if kind == "attribute":
        return wrong_attribute(scene, rng, rng.choice(sayable))
    return caption(as_another_class(scene, rng), rng)


def wrong_attribute(scene, rng, attribute):
    truth = scene.facts[attribute]
    others = [value for value in values(scene.noun, attribute) if value not in (truth, "none")]
    if not others:
        return caption(as_another_class(scene, rng), rng)
    # The most tempting falsehood is a colour that the image does hold, elsewhere.
    elsewhere = [value for name, value in scene.facts.items() if name != attribute and value in others]
    if elsewhere and rng.random() < 0.7:
        others = elsewhere
    return caption(scene.with_facts(**{attribute: rng.choice(others)}), rng, must_name=(attribute,))


def as_another_class(scene, rng):
    """The scene with an object of another class in its place, of the same colour if both have one."""
    noun = rng.choice([other for other in CLASSES if other != scene.noun])
    attributes = sample_attributes(noun, rng)
    if "color" in scene.facts and "color" in attributes:
        attributes["color"] = scene.facts["color"]
    return replace(scene, noun=noun, attributes=tuple(attributes.items()))
