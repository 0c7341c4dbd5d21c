"""SQL of the scale benchmarks."""
