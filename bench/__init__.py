"""Benchmarks: each prints ratios against a named alternative of the same run and records the machine."""
