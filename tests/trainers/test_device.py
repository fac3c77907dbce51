"""Each phase sets torch's flags for itself and leaves them as it found them."""

import pytest
import torch

from trainers.device import is_out_of_memory, moved, phase
from trainers.families import family_of
from trainers.families.stable_diffusion import StableDiffusion
from trainers.learner import Learner
from trainers.loop import train
from trainers.prior import make_class_images
from trainers.spec import PriorSpec, SampleSpec


def flags():
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark


@pytest.fixture(params=[(True, False, True), (False, True, False)])
def found(request):
    """Flags that somebody else left."""
    before = flags()
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = request.param
    yield request.param
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


@pytest.mark.parametrize("tf32", [True, False])
def test_a_phase_leaves_what_it_found(tf32, found):
    with phase(tf32):
        assert flags() == (tf32, tf32, False)
        with phase():
            assert flags() == (False, False, False)
        assert flags() == (tf32, tf32, False)
    assert flags() == found
    with pytest.raises(KeyError), phase(tf32):
        raise KeyError
    assert flags() == found


@pytest.mark.parametrize("tf32", [True, False])
def test_a_training_asks_for_tf32_while_it_computes_only(tf32, found, make_spec, tmp_path, monkeypatch):
    seen = {"encoding": [], "step": []}
    encode, forward = StableDiffusion.encode_images, Learner.forward
    monkeypatch.setattr(
        StableDiffusion, "encode_images", lambda *args: seen["encoding"].append(flags()) or encode(*args)
    )
    monkeypatch.setattr(Learner, "forward", lambda *args: seen["step"].append(flags()) or forward(*args))
    for _ in train(make_spec(trainer={"tf32": tf32}), [1, 2], tmp_path):
        assert flags() == found
    assert flags() == found
    assert set(seen["step"]) == {(tf32, tf32, False)}
    assert set(seen["encoding"]) == {(False, False, False)}


def test_a_training_that_ends_in_an_error_leaves_what_it_found(found, make_spec, tmp_path):
    def stop(step, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(train(make_spec(trainer={"tf32": True}), [2], tmp_path, progress=stop))
    assert flags() == found


def test_class_images_are_sampled_without_tf32(found, make_spec, tmp_path, monkeypatch):
    seen, sample = [], StableDiffusion.sample
    monkeypatch.setattr(
        StableDiffusion, "sample", lambda *args, **kwargs: seen.append(flags()) or sample(*args, **kwargs)
    )
    model = make_spec().model
    prior = PriorSpec(num_class_images=1, sample=SampleSpec("ddim", 1))
    make_class_images(family_of(model).load(model), "a dog", prior, tmp_path / "images")
    assert seen == [(False, False, False)]
    assert flags() == found


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"), False),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("a dog out of memory"), False),
        (None, False),
    ],
)
def test_in_which_words_memory_runs_out(error, memory):
    assert is_out_of_memory(error) == memory


def test_moved_to_where_it_is():
    tensor = torch.arange(3)
    assert moved(tensor, torch.device("cpu")) is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_moved_to_the_gpu():
    tensor = torch.arange(3)
    assert moved(tensor, torch.device("cuda")).cpu().equal(tensor)
