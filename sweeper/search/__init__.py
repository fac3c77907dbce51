"""A search with Optuna instead of a grid."""
