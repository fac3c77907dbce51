"""How each part of the miniature is trained from nothing; `python -m miniature.pretrain` runs all of it."""
