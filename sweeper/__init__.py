"""What to run, where, and what is done: from the typed line to the answer."""
