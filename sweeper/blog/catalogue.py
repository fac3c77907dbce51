"""The twelve claims in words, each with its experiments, the function that assesses it, and what stays open."""

from collections.abc import Callable
from dataclasses import dataclass

from sweeper.blog import claims
from sweeper.blog.verdicts import Finding

EXPERIMENTS = (
    "learning_rate",
    "prior_preservation",
    "inference_scheduler",
    "inference_steps",
    "text_encoder",
    "textual_inversion",
    "ema",
    "rare_token",
)  # first those that others share trainings with


@dataclass(frozen=True)
class Claim:
    number: int
    words: str
    experiments: tuple[str, ...]
    assess: Callable[..., Finding]
    measures: tuple[str, ...]  # that the figure shows
    untold: str = ""  # what is not tested with any model
    miniature: str = ""  # what the miniature cannot say about Stable Diffusion


CLAIMS = (
    Claim(
        1,
        "On every subject the lower learning rate gives better results than 5e-6 at the same number of steps.",
        ("learning_rate",),
        claims.lower_lr_is_better,
        ("score", "s", "t"),
        miniature="Its learning rates are multiplied by a factor that was chosen so that 5e-6 overfits where it trains "
        "long enough: that there is a difference was built in, where it lies says nothing of Stable Diffusion.",
    ),
    Claim(
        2,
        "Objects: 400 steps at 2e-6 work well.",
        ("learning_rate",),
        claims.objects_at_400,
        ("score", "s", "t"),
        "The best of a grid looks better than it is, so this is a strict test.",
        "The number of steps is that of another network at another learning rate.",
    ),
    Claim(
        3,
        "Faces need more training: about 1200 steps (800 to 1200) at 1e-6 or 2e-6.",
        ("learning_rate",),
        claims.faces_need_more,
        ("score", "s", "t"),
        "Whether faces need more than objects is not separable from their smaller batch and prior preservation.",
        "Its faces are drawn from a dozen attributes; what makes a real face hard is not in them.",
    ),
    Claim(
        4,
        "A high learning rate or too many steps overfit: whatever the prompt, the images are the training images.",
        ("learning_rate",),
        claims.too_much_overfits,
        ("t", "copying"),
    ),
    Claim(
        5,
        "A low learning rate and too few steps underfit: the concept does not appear.",
        ("learning_rate",),
        claims.too_little_underfits,
        ("s", "t"),
    ),
    Claim(
        6,
        "Prior preservation helps on faces, with less overfitting; elsewhere it makes no great difference.",
        ("prior_preservation",),
        claims.prior_helps_faces,
        ("score", "t", "drift"),
        "Elsewhere is one object.",
    ),
    Claim(
        7,
        "Overfit models give noisy, degraded images; DDIM is then much better than PNDM, and LMSDiscrete the worst.",
        ("inference_scheduler",),
        claims.ddim_is_cleaner,
        ("noise",),
        "Noise of the pixels is measured; other degradation shows in the images only.",
        "At 64 pixels and with a decoder of its own it need not fail as Stable Diffusion does.",
    ),
    Claim(
        8,
        "More inference steps, about 100, turn leftover noise into detail.",
        ("inference_steps",),
        claims.more_inference_steps,
        ("noise", "s"),
        "Detail is not measured: that the subject is kept as well stands in for it.",
        "At 64 pixels there is hardly any detail to win.",
    ),
    Claim(
        9,
        "Training the text encoder too gives the best results, above all on faces: better likeness, less overfitting, "
        "better prompt fidelity.",
        ("text_encoder",),
        claims.text_encoder_is_best,
        ("score", "s", "t"),
        "That it needs more memory (24 GB; 16 GB with 8-bit Adam, fp16 and gradient accumulation) is not tested here.",
        "Its text encoder knows some hundred words of a world of ten things.",
    ),
    Claim(
        10,
        "With or without a moving average of the weights (EMA), results are similar.",
        ("ema",),
        claims.ema_makes_no_difference,
        ("s", "t"),
        "The average starts with the fine-tuning; that of the base model's own training is another matter.",
    ),
    Claim(
        11,
        "A rare token such as sks is not needed; a natural word works as well.",
        ("rare_token",),
        claims.natural_word_works,
        ("score", "s", "t"),
        "One natural word, a name.",
        "The name means nothing to it, so it cannot show what an existing meaning of a word does.",
    ),
    Claim(
        12,
        "Textual inversion (2000 steps), then DreamBooth (500 at 1e-6), beats plain DreamBooth, is not as good as "
        "training the text encoder, and copies the training style somewhat more.",
        ("textual_inversion", "text_encoder"),
        claims.inversion_in_between,
        ("score", "s", "t", "copying"),
        "The post gives no settings for what it compares with: assumed are those of its face runs at 2e-6, with more "
        "steps. Copying stands in for style.",
    ),
)
