"""Runs every cell of a table exactly once, on the results kept in one Optuna storage.

``cells`` is light; the other modules import Optuna, and are imported where they are used.
"""
