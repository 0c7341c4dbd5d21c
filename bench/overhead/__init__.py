"""The parts of the gateway benchmark: what is measured, what it stands on, and how it is told."""
