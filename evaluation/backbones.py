"""What is read of the encoders that measure, in transformers' format. Imports nothing heavy."""

from trainers.hub import Reads

_PROCESSOR = ("config.json", "preprocessor_config.json")
CLIP = Reads(_PROCESSOR, weights=("model",), tokenizers=("",), pickled="pytorch_model.bin")
DINO = Reads(_PROCESSOR, weights=("model",), pickled="pytorch_model.bin")
DOWNLOADS = {CLIP: 610_000_000, DINO: 90_000_000}  # bytes of CLIP ViT-B/32 and of DINO ViT-S/16
