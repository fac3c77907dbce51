"""How good a checkpoint is. Knows checkpoints and subjects, not plans."""
