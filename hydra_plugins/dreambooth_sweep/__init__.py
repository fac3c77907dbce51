"""What Hydra finds here: our sweepers, our launcher and the help."""
