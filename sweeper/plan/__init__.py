"""What is to be run: axes, cells, and the fewest trainings that serve them. Imports no torch."""
