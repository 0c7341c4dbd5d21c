"""Measurement of a running gateway through its HTTP API."""
