"""The judge's network and its training: a small convolutional classifier that is trained on renders alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from miniature.labels import HEADS, Heads, encode_labels, heads_loss
from miniature.pretrain.data import Images, to_tensor
from miniature.pretrain.loop import default_device, fit, on_device
from miniature.pretrain.vae import batches
from miniature.world import Scene


class Block(nn.Module):
    """Halves the image's side, then adds a residual convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(channels, out_channels, 3, 2, 1), nn.GroupNorm(4, out_channels), nn.GELU())
        self.mix = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, 3, 1, 1), nn.GroupNorm(4, out_channels), nn.GELU()
        )

    def forward(self, x: Tensor) -> Tensor:
        smaller: Tensor = self.down(x)
        mixed: Tensor = self.mix(smaller)
        return smaller + mixed


class Classifier(nn.Module):
    """Pixels [B, 3, 64, 64] in -1..1 -> logits [B, heads, values]; see `miniature.labels.Heads`."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Block(3, 24), Block(24, 48), Block(48, 96), Block(96, 128))
        # The 4 x 4 features are flattened, not pooled: only its place tells an eye's colour from a shirt's.
        self.squeeze = nn.Sequential(nn.Flatten(), nn.Linear(128 * 16, 192), nn.GELU())
        self.heads = Heads(192)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.heads(self.squeeze(self.body(pixels)))
        return logits

    @torch.no_grad()
    def read(self, images: Images) -> dict[str, Tensor]:
        """Head -> probabilities [N, values] for images, uint8 [N, 64, 64, 3]."""
        logits = torch.cat([self(to_tensor(part)) for part in batches(images, 100)])
        probabilities = logits.softmax(-1)
        return {name: probabilities[:, index, : len(HEADS[name])] for index, name in enumerate(HEADS)}


def augment(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Mild blur, noise and changes of contrast, as in sampled images, so that they do not mislead the judge."""
    count = len(pixels)
    soft = nn.functional.avg_pool2d(nn.functional.pad(pixels, (1, 1, 1, 1), "replicate"), 3, 1)
    amount = torch.from_numpy(rng.uniform(0, 1, (count, 1, 1, 1))).float().to(pixels.device)
    contrast = torch.from_numpy(rng.uniform(0.85, 1.15, (count, 1, 1, 1))).float().to(pixels.device)
    return contrast * pixels.lerp(soft, amount) + 0.1 * amount * torch.randn_like(pixels)


def train(scenes: Sequence[Scene], images: Images, folder: Path, steps: int, batch: int = 32) -> Classifier:
    """Train on `scenes` and their images, uint8 [N, 64, 64, 3]; returns the network with averaged weights."""
    device = default_device()
    torch.manual_seed(0)
    labels = torch.from_numpy(encode_labels(scenes)).to(device)

    def loss_of(model: Classifier, rng: np.random.Generator) -> tuple[Tensor, dict[str, str]]:
        chosen = rng.integers(len(scenes), size=batch)
        pixels = augment(to_tensor(images[chosen], device), rng)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(pixels)
        loss = heads_loss(logits, labels[chosen])
        return loss, {"loss": f"{loss.item():.3f}"}

    return fit("judge", on_device(Classifier()), loss_of, steps=steps, lr=2e-3, folder=folder).cpu()


def save(model: Classifier, folder: Path) -> None:
    """Write the weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")


def load(folder: Path) -> Classifier:
    """The network that `save` wrote, in float32 and in eval mode."""
    model = Classifier()
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.eval()
