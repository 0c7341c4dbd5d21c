"""Failures by cause: checks of the evidence, rules over the checks, and what was decided of each turn."""
