"""How weights learn. Knows nothing of sweeps."""
