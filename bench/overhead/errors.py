"""What can go wrong in a benchmark, in the reader's words."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark could not be run."""


class PeerMissingError(BenchError):
    """The other gateway could not be installed, so there is nothing to compare with."""


class ProcessFailedError(BenchError):
    """A process of the benchmark did not start or ended by itself."""


class NotComparableError(BenchError):
    """A target does not do the work that is to be measured, so its speed would mean nothing."""
