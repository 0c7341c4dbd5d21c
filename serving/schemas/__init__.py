"""Packaged task schemas."""
