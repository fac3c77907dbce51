"""Muon for convolutions as well as matrices, with AdamW for everything else.

Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with the update scaled to
AdamW's size after J. Liu et al., "Muon is Scalable for LLM Training" (arXiv:2502.16982). `torch.optim.Muon` takes
matrices only, and most of a small U-Net is convolutions.
"""

import torch

ADAMW_ONLY = ("conv_in", "conv_out", "quant_conv", "time_embedding", "embed", "head", "logit_scale", "cls_token")


def orthogonalize(matrix, iterations=5):
    """The nearest semi-orthogonal matrix [rows, columns], roughly, by a quintic Newton-Schulz iteration in bf16."""
    x = (matrix / (matrix.norm() + 1e-7)).bfloat16()
    if transposed := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return (x.T if transposed else x).type_as(matrix)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized; parameters of two or more dimensions, flattened to [out, rest]."""

    def __init__(self, params, lr, momentum=0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
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


def make_optimizers(module, lr):
    """[Muon, AdamW] over `module`'s trainable parameters, with one learning rate for both."""
    hidden, rest = [], []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            by_muon = parameter.ndim >= 2 and not any(part in name for part in ADAMW_ONLY)
            (hidden if by_muon else rest).append(parameter)
    return [Muon(hidden, lr), torch.optim.AdamW(rest, lr, betas=(0.9, 0.98), weight_decay=0.0)]
