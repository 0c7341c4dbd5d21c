"""Judges: models that answer one yes-or-no question of an answer, and how often they are wrong."""
