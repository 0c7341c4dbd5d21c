"""Faults that are put into documents, index, prompt and model on purpose, to see whether labels name them."""
