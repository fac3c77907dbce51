"""DreamBooth, LoRA and textual inversion written from the formulas, in plain torch, one sample at a time.

Shares with the trainers the order of the data and the random draws, and nothing else: no VAE cache, no diffusers
scheduler, no accelerate, no peft, no library of schedules or averages.
"""

from dataclasses import dataclass, field

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch.func import functional_call
from transformers import CLIPTextModel, CLIPTokenizer

from trainers.data import generator, order
from trainers.images import instance_images
from trainers.spec import TrainSpec


@dataclass
class Reference:
    spec: TrainSpec
    class_folder: str
    losses: list[float] = field(default_factory=list)
    average: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self):
        repo = self.spec.model.repo
        self.unet = UNet2DConditionModel.from_pretrained(repo, subfolder="unet").eval()
        self.text_encoder = CLIPTextModel.from_pretrained(repo, subfolder="text_encoder").eval()
        self.vae = AutoencoderKL.from_pretrained(repo, subfolder="vae").eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(repo, subfolder="tokenizer")
        root = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32)
        self.alpha_bar = torch.cumprod(1 - root**2, 0)
        self.prediction = "v_prediction" if "v" in repo.rsplit("/", 1)[-1] else "epsilon"

    # --- the networks as functions of what learns: `effective(learned)` gives whole state dicts ---

    def states(self, weights, prompt):
        ids = self.tokenizer(
            prompt, padding="max_length", max_length=16, truncation=True, return_tensors="pt"
        ).input_ids
        return functional_call(self.text_encoder, weights, (ids,)).last_hidden_state

    def sample_loss(self, unet_weights, text_weights, purpose, index, timestep, noise, eps, prompt):
        """The loss of one sample."""
        folder = self.spec.subject.images if purpose == "instance" else self.class_folder
        image = Image.open(instance_images(folder)[index]).convert("RGB")
        pixels = torch.tensor(list(image.getdata()), dtype=torch.float32).reshape(16, 16, 3).permute(2, 0, 1) / 255
        with torch.no_grad():
            moments = self.vae._encode((pixels[None] - 0.5) / 0.5)
        mean, logvar = moments.chunk(2, dim=1)
        x = (mean + torch.exp(0.5 * logvar) * eps) * self.vae.config.scaling_factor
        ab = self.alpha_bar[timestep]
        noisy = ab.sqrt() * x + (1 - ab).sqrt() * noise
        predicted = functional_call(
            self.unet, unet_weights, (noisy, timestep[None], self.states(text_weights, prompt))
        ).sample
        target = noise if self.prediction == "epsilon" else ab.sqrt() * noise - (1 - ab).sqrt() * x
        loss = ((predicted - target) ** 2).mean()
        if self.spec.trainer.min_snr_gamma is not None:
            snr = ab / (1 - ab)
            capped = torch.minimum(snr, torch.tensor(self.spec.trainer.min_snr_gamma))
            loss = loss * capped / (snr if self.prediction == "epsilon" else snr + 1)
        return loss

    def stream_loss(self, unet_weights, text_weights, purpose, prompts_of, position):
        """The mean loss of the instance or the class images of an accumulation step."""
        size, count = self.spec.batch_size, {"instance": 3, "class": 5}[purpose]
        draws = generator(self.spec.seed, purpose, position)
        timesteps = torch.randint(0, 1000, (size,), generator=draws)
        noise = torch.randn(size, 4, 8, 8, generator=draws)
        eps = torch.randn(size, 4, 8, 8, generator=draws)
        uniform = torch.rand(size, 4, generator=draws)
        if self.spec.trainer.offset_noise:
            shift = torch.randn(size, 4, 1, 1, generator=draws)
            noise = noise + self.spec.trainer.offset_noise * shift
        indices = order(self.spec.seed, purpose, count, position * size, size)
        losses = [
            self.sample_loss(
                unet_weights, text_weights, purpose, indices[i], timesteps[i], noise[i : i + 1], eps[i : i + 1],
                prompts_of(purpose, float(uniform[i, 3])),
            )
            for i in range(size)
        ]  # fmt: skip
        return sum(losses) / size

    def train(self, steps, learned, effective, prompts_of, lr_of, stop_of=lambda name: None):
        """Adam with decoupled weight decay on the tensors `learned`, in place. `lr_of(name)` is a tensor's rate."""
        spec, trainer = self.spec, self.spec.trainer
        first = {name: torch.zeros_like(w) for name, w in learned.items()}
        second = {name: torch.zeros_like(w) for name, w in learned.items()}
        self.average = {name: w.detach().clone() for name, w in learned.items()}
        for step in range(steps):
            total = 0.0
            for i in range(spec.gradient_accumulation_steps):
                position = step * spec.gradient_accumulation_steps + i
                unet_weights, text_weights = effective(learned)
                loss = self.stream_loss(unet_weights, text_weights, "instance", prompts_of, position)
                if spec.prior is not None:
                    prior = self.stream_loss(unet_weights, text_weights, "class", prompts_of, position)
                    loss = loss + spec.prior.weight * prior
                total = total + loss / spec.gradient_accumulation_steps
            moving = {n: w for n, w in learned.items() if stop_of(n) is None or step < stop_of(n)}
            grads = dict(zip(moving, torch.autograd.grad(total, list(moving.values())), strict=True))
            norm = sum((g**2).sum() for g in grads.values()).sqrt()
            clip = min(1.0, float(trainer.max_grad_norm / (norm + 1e-6)))
            warm = min(1.0, step / trainer.lr_warmup_steps) if trainer.lr_warmup_steps else 1.0
            b1, b2 = trainer.adam_beta1, trainer.adam_beta2
            with torch.no_grad():
                for name, w in moving.items():
                    g, rate = grads[name] * clip, lr_of(name) * warm
                    first[name] = b1 * first[name] + (1 - b1) * g
                    second[name] = b2 * second[name] + (1 - b2) * g**2
                    direction = (first[name] / (1 - b1 ** (step + 1))) / (
                        (second[name] / (1 - b2 ** (step + 1))).sqrt() + trainer.adam_epsilon
                    )
                    w -= rate * trainer.weight_decay * w + rate * direction
                # Exponential moving average with the warm-up of Tensorflow's, as diffusers has it.
                decay = min(trainer.ema_decay, (1 + step) / (10 + step)) if step else 0.0
                for name, w in learned.items():
                    self.average[name] += (1 - decay) * (w - self.average[name])
            self.losses.append(total.item())
        return learned
