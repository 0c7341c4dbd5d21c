"""Packaged prompt files."""
