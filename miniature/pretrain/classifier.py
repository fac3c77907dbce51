"""The judge's eyes: a small convolutional classifier of the ground truth, trained on renders alone."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from miniature.labels import HEADS, Heads, encode_labels, heads_loss
from miniature.pretrain.data import to_tensor
from miniature.pretrain.loop import device, fit
from miniature.pretrain.vae import batches


class Block(nn.Module):
    """Halves the image and adds a residual convolution."""

    def __init__(self, inside, outside):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(inside, outside, 3, 2, 1), nn.GroupNorm(4, outside), nn.GELU())
        self.mix = nn.Sequential(nn.Conv2d(outside, outside, 3, 1, 1), nn.GroupNorm(4, outside), nn.GELU())

    def forward(self, x):
        x = self.down(x)
        return x + self.mix(x)


class Classifier(nn.Module):
    """Pixels [B, 3, 64, 64] in -1..1 -> logits [B, heads, values]; see `miniature.labels`."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Block(3, 24), Block(24, 48), Block(48, 96), Block(96, 128))
        # The 4 x 4 cells keep their places: an eye's colour and a shirt's are told apart by where they are.
        self.squeeze = nn.Sequential(nn.Flatten(), nn.Linear(128 * 16, 192), nn.GELU())
        self.heads = Heads(192)

    def forward(self, pixels):
        return self.heads(self.squeeze(self.body(pixels)))

    @torch.no_grad()
    def read(self, images):
        """Probabilities of every head's values for uint8 images [N, 64, 64, 3]: head -> [N, values]."""
        logits = torch.cat([self(to_tensor(part)) for part in batches(images, 100)])
        probabilities = logits.softmax(-1)
        return {name: probabilities[:, index, : len(HEADS[name])] for index, name in enumerate(HEADS)}


def augment(pixels, rng):
    """What a sampler does to images, mildly: blur, noise, contrast; so that the judge reads past it."""
    count = len(pixels)
    soft = nn.functional.avg_pool2d(nn.functional.pad(pixels, (1, 1, 1, 1), "replicate"), 3, 1)
    amount = torch.from_numpy(rng.uniform(0, 1, (count, 1, 1, 1))).float().to(pixels.device)
    contrast = torch.from_numpy(rng.uniform(0.85, 1.15, (count, 1, 1, 1))).float().to(pixels.device)
    return contrast * pixels.lerp(soft, amount) + 0.1 * amount * torch.randn_like(pixels)


def train(scenes, images, folder, steps, batch=32):
    """Train on rendered `scenes` and their `images` (uint8 [N, 64, 64, 3]); returns the averaged Classifier."""
    where = device()
    torch.manual_seed(0)
    labels = torch.from_numpy(encode_labels(scenes)).to(where)

    def loss_of(model, rng, step):
        chosen = rng.integers(len(scenes), size=batch)
        pixels = augment(to_tensor(images[chosen], where), rng)
        with torch.autocast(where.type, torch.bfloat16):
            logits = model(pixels)
        loss = heads_loss(logits, labels[chosen])
        return loss, {"loss": f"{loss.item():.3f}"}

    return fit("judge", Classifier().to(where), loss_of, steps=steps, lr=2e-3, folder=folder).cpu()


def save(model, folder):
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half() for name, tensor in model.state_dict().items()}, Path(folder) / "model.safetensors")


def load(folder):
    """The Classifier that `save` wrote, in float32."""
    model = Classifier()
    tensors = load_file(Path(folder) / "model.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.eval()
