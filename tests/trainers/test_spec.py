"""The canonical JSON of specs where a field has moved."""

import hashlib
from dataclasses import replace

from trainers.families import FAMILIES
from trainers.families.defaults import DEFAULTS
from trainers.spec import TRAINERS, ModelSpec, SubjectSpec, TrainSpec, canonical, model_as_before, signature

SPEC = TrainSpec(ModelSpec("model"), SubjectSpec("images", "dog"), lr_scale=150.0)


def test_signatures_with_lr_scale_are_as_recorded():
    """As of revision 6044e38, where `lr_scale` was a field of the model."""
    recorded = {1.0: "c33dfe85b0e437b4", 2.5: "2cecee80e3326035", 150.0: "2ddfc32dfb17ff39"}
    assert {scale: replace(SPEC, lr_scale=scale).signature for scale in recorded} == recorded


def test_lr_scale_stands_in_the_model_of_a_training():
    assert canonical(SPEC)["model"] == {
        "family": "stable_diffusion", "lr_scale": 150.0, "resolution": 64, "revision": "model",
    }  # fmt: skip
    assert "lr_scale" not in canonical(SPEC)
    assert model_as_before(SPEC) == canonical(SPEC)["model"]


def test_a_model_alone_has_its_old_name_at_scale_one():
    text = '[{"family":"stable_diffusion","lr_scale":1.0,"resolution":64,"revision":"model"}]'
    assert signature(SPEC.model) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_every_family_has_defaults():
    assert set(DEFAULTS) == set(FAMILIES)
    for family in DEFAULTS.values():
        assert set(family.trainers) <= set(TRAINERS)
        assert family.scheduler in family.schedulers
