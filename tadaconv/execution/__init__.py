"""Runs every cell of a table exactly once, on the results kept in one Optuna storage."""
