"""Engines of the model rail for benchmarks: fakes, and real vLLM where it is asked for."""
