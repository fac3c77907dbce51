"""MLflow: what it should show, and how that gets there."""
