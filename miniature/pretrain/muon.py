"""Muon for hidden convolutions and matrices, AdamW for all other weights.

Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). The update is scaled to the
size of AdamW's, after J. Liu et al., "Muon is Scalable for LLM Training" (arXiv:2502.16982). `torch.optim.Muon` takes
matrices only, and most of a small U-Net is convolutions.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

ADAMW_ONLY = ("conv_in", "conv_out", "quant_conv", "time_embedding", "embed", "head", "logit_scale", "cls_token")
"""A weight whose name contains one of these belongs to an input or an output layer, and is AdamW's."""


def orthogonalize(matrix: Tensor, iterations: int = 5) -> Tensor:
    """About the nearest semi-orthogonal matrix [rows, columns], by a quintic Newton-Schulz iteration in bf16."""
    x: Tensor = (matrix / (matrix.norm() + 1e-7)).bfloat16()
    transposed = x.shape[0] > x.shape[1]
    if transposed:
        x = x.T
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return (x.T if transposed else x).type_as(matrix)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with an orthogonalized update, for parameters of two or more dimensions.

    A parameter is flattened to a matrix [out, rest] for it.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # takes no closure: the loop computes the loss
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                average = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(average, group["momentum"]).flatten(1)
                scale = 0.2 * max(ahead.shape) ** 0.5
                weight.add_(orthogonalize(ahead).view_as(weight), alpha=-group["lr"] * scale)


def make_optimizers(module: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """[Muon, AdamW] over `module`'s trainable parameters, with one learning rate for both."""
    hidden = []
    rest = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim >= 2 and not any(part in name for part in ADAMW_ONLY):
            hidden.append(parameter)
        else:
            rest.append(parameter)
    return [Muon(hidden, lr), torch.optim.AdamW(rest, lr, betas=(0.9, 0.98), weight_decay=0.0)]
