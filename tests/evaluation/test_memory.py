"""What is counted beside a training for the evaluation of its checkpoints."""

from dataclasses import replace

from evaluation.features import clip_encoder, dino_encoder
from evaluation.memory import STANDARD, beside, encoder_bytes
from trainers.live_bytes import parameter_bytes


def test_encoders_count_with_their_weights(clip_folder, dino_folder, dinov2_folder):
    clip, dino = clip_encoder(str(clip_folder), "clip", "cpu"), dino_encoder(str(dino_folder), "dino", "cpu")
    assert encoder_bytes("clip", str(clip_folder), "clip") == parameter_bytes(clip.model)
    small = parameter_bytes(dino.model)
    assert small <= encoder_bytes("dino", str(dino_folder), "dino") <= 1.2 * small  # a layer that is not read
    assert encoder_bytes("dino", str(dinov2_folder), "dino") > 0


def test_encoders_that_are_not_here_yet_count_as_the_standard_ones():
    for kind, size in STANDARD.items():
        assert encoder_bytes(kind, "nobody/nothing", f"nobody/nothing@{kind}") == size


def test_each_way_and_each_encoder_counts_once(sampling, evaluation):
    half = replace(sampling, precision="fp16")
    found = beside([sampling, half, sampling], [evaluation, replace(evaluation, seed=1)])
    assert found.samples == (sampling, half)
    assert found.encoders == sum(
        encoder_bytes(kind, getattr(evaluation, f"{kind}_repo"), getattr(evaluation, kind)) for kind in STANDARD
    )
