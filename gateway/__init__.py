"""The HTTP face of both rails: answers, turns, access, release control and telemetry."""
