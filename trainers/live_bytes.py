"""What is alive at once while networks compute, on tensors that have shapes but no data: seconds, and no weights."""

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# What the networks here call of the operations that CUDA's autocast computes in fp32, and a CPU's in the precision that
# comes: "CUDA Ops that can autocast to float32" in torch's documentation of torch.amp.
IN_FP32 = ("exp", "group_norm", "layer_norm", "log_softmax", "pow", "rms_norm", "rsqrt", "softmax")


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of what is allocated inside it and alive at once (`peak` is the most), and the operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.now = self.peak = self.operations = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.operations += 1
        result = function(*args, **(kwargs or {}))
        known = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and id(tensor.untyped_storage()) not in known:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        size = storage.nbytes()
        if key not in self.seen:
            self.seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


class AutocastOnCuda(TorchFunctionMode):
    """Where a CPU's autocast is on, the operations of `IN_FP32` get their tensors in fp32, as from CUDA's."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.is_autocast_enabled("cpu") and getattr(function, "__name__", "") in IN_FP32:
            args, kwargs = tree_map(_in_fp32, (args, kwargs or {}))
        return function(*args, **(kwargs or {}))


def normalise_as_on_cuda(network: nn.Module) -> None:
    """Puts each layer of `network` under `AutocastOnCuda`: around the whole it would miss what gradient checkpointing
    computes again in the backward pass, inside of which no mode is asked."""
    for layer in network.modules():
        if not list(layer.children()):
            layer.forward = functools.partial(_under_autocast_on_cuda, layer.forward)


def _under_autocast_on_cuda(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with AutocastOnCuda():
        return forward(*args, **kwargs)


def _in_fp32(value: Any) -> Any:
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


@contextmanager
def without_data(*modules: nn.Module) -> Iterator[None]:
    """Inside, tensors have no data, nor have the weights of `modules`, then and afterwards; shared ones stay shared."""
    with FakeTensorMode():
        made: dict[int, nn.Parameter] = {}
        for module in (inner for outer in modules for inner in outer.modules()):
            for name, weight in module._parameters.items():
                if weight is not None:
                    blank = torch.empty(weight.shape, dtype=weight.dtype)
                    given = nn.Parameter(blank, requires_grad=weight.requires_grad)
                    module._parameters[name] = made.setdefault(id(weight), given)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
        yield


def parameter_bytes(*modules: nn.Module) -> int:
    """Of all weights, shared ones counted once in a module."""
    return sum(w.numel() * w.element_size() for module in modules for w in module.parameters())
