"""The stages of a training that has more than one, as specs. Imports nothing heavy."""

from dataclasses import replace

from trainers.spec import TrainerSpec, TrainSpec


def inversion_stage(spec: TrainSpec) -> TrainSpec:
    """The textual inversion that a `ti_dreambooth` starts from: a training of its own, the same for every learning
    rate, prior and text-encoder setting of the DreamBooth that follows."""
    shared = ("vectors", "initial_word", "templates", "captions", "center_crop", "random_flip", "repeats")
    trainer = TrainerSpec(name="textual_inversion", **{name: getattr(spec.trainer, name) for name in shared})
    return replace(
        spec,
        trainer=trainer,
        prior=None,
        lr=spec.trainer.inversion_lr,
        train_text_encoder=False,
        use_8bit_adam=False,
        horizon=None,
    )
