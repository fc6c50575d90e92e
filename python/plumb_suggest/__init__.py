"""Chooses the points of Plumb's searches: tpe, gp, cmaes and nsga2 by Optuna (docs/how-to/suggester.md)."""
