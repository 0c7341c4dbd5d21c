"""What to fix, and what not: a verdict with its evidence, from the labels and figures of a run."""
