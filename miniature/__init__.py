"""The miniature: a small Stable Diffusion, trained from scratch on a rendered world whose truth is known."""
