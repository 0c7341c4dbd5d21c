"""Whether a tuned version has earned its place: against a strong prompt and the stable version."""
