"""Searching the prompt of a model before anybody says that prompts do not help."""
