"""PromQL as the board writes it: rates over the window on screen, summed over gateways."""

from __future__ import annotations

WINDOW = "$__rate_interval"


def rate(metric: str, *, by: str = "", where: str = "") -> str:
    """Events a second, summed over gateways."""
    return f"sum{_by(by)} (rate({metric}{_where(where)}[{WINDOW}]))"


def share(part: str, whole: str) -> str:
    """A ratio of two rates; no line (rather than NaN) while nothing happens."""
    return f"{part} / ({whole} > 0)"


def quantile(q: float, histogram: str, *, by: str = "", where: str = "") -> str:
    """A quantile over the window, from buckets summed over gateways."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{_where(where)}[{WINDOW}])))"


def mean(histogram: str, *, by: str = "", where: str = "") -> str:
    """The mean over the window (never over the process's lifetime)."""
    return share(rate(f"{histogram}_sum", by=by, where=where), rate(f"{histogram}_count", by=by, where=where))


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _where(matchers: str) -> str:
    return f"{{{matchers}}}" if matchers else ""
