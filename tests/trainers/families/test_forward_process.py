"""What the forward process of every family must provide. For each member of it there is a test of its name."""

import torch

from tests.trainers.families.pipelines import draw, untested
from trainers.errors import SpecError
from trainers.families.base import ForwardProcess


def test_every_member_has_a_test():
    assert not untested(ForwardProcess, __name__)


def test_draw_is_repeatable_and_on_the_way(process):
    state = torch.random.get_rng_state()
    drawn = process.draw(1000, torch.Generator().manual_seed(0))
    assert drawn.shape == (1000,)
    assert drawn.device.type == "cpu"
    assert torch.equal(drawn, process.draw(1000, torch.Generator().manual_seed(0)))
    assert torch.equal(state, torch.random.get_rng_state())
    assert drawn.float().std() > 0


def test_at_goes_from_clean_to_noise(process, family, components):
    latents, _ = draw(family, components)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(9))
    distances = []
    for fraction in (0.05, 0.5, 0.95):
        timesteps = process.at(fraction, len(latents))
        assert timesteps.shape == (2,)
        assert timesteps.dtype == process.draw(1, torch.Generator()).dtype
        distances.append(float((process.noised(latents, noise, timesteps) - latents).square().mean()))
    assert distances == sorted(distances)


def test_noised_treats_each_sample_by_its_timestep(process, family, components):
    latents, _ = draw(family, components)
    noise = torch.randn_like(latents)
    timesteps = torch.cat([process.at(0.2, 1), process.at(0.8, 1)])
    together = process.noised(latents, noise, timesteps)
    assert together.shape == latents.shape
    assert torch.equal(together[1:], process.noised(latents[1:], noise[1:], timesteps[1:]))


def test_target_is_shaped_as_the_latents_and_knows_the_noise(process, family, components):
    latents, _ = draw(family, components)
    timesteps = process.at(0.5, 2)
    one, other = (process.target(latents, noise, timesteps) for noise in (torch.zeros_like(latents), latents.flip(0)))
    assert one.shape == latents.shape
    assert not torch.equal(one, other)


def test_weights_are_none_without_a_gamma(process):
    timesteps = torch.cat([process.at(fraction, 1) for fraction in (0.1, 0.5, 0.9)])
    assert process.weights(timesteps, None) is None
    try:
        weights = process.weights(timesteps, 5.0)
    except SpecError:
        return
    assert weights.shape == (3,)
    assert ((weights > 0) & (weights <= 1)).all()
    assert len(set(weights.tolist())) > 1
