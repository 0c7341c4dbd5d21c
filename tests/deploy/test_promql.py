"""The reader of names in PromQL."""

from __future__ import annotations

import pytest

from tests.deploy.promql import named_in


@pytest.mark.parametrize(
    ("expression", "metrics", "labels"),
    [
        ("up", {"up"}, set()),
        ('sum by (a, b) (rate(m_total{c="x", d=~"y.*"}[5m]))', {"m_total"}, {"a", "b", "c", "d"}),
        ("sum(rate(m_sum[1m])) / (sum(rate(m_count[1m])) > 0)", {"m_sum", "m_count"}, set()),
        ("histogram_quantile(0.95, sum by (le) (rate(m_bucket[$__rate_interval])))", {"m_bucket"}, {"le"}),
        ("a / on (id) group_left () b or vector(0)", {"a", "b"}, {"id"}),
        ("max(slo:x:ratio_rate5m{i='j'}) > 14.4 * 0.005 and y", {"slo:x:ratio_rate5m", "y"}, {"i"}),
        ("label_values(m_count, version)", {"m_count"}, {"version"}),
    ],
)
def test_metrics_and_labels_are_found(expression: str, metrics: set[str], labels: set[str]) -> None:
    named = named_in(expression)
    assert named.metrics == metrics
    assert named.labels == labels
