"""How each part of the miniature is trained from nothing; `python -m miniature.pretrain` trains all of them."""
