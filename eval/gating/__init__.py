"""Gates: whether a candidate may replace the stable version, decided on the same questions."""
