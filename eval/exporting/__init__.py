"""What becomes of reviewed turns: training examples, regression tests, policy cases, articles to write."""
