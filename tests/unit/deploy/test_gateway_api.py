"""Problems of the gateway become errors with the right exit code."""

import pytest

from deploy.errors import DeployError, GateRefusedError, GatewayFailedError, UsageError
from deploy.gateway_api import refused


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UsageError),
        (404, UsageError),
        (409, GateRefusedError),
        (422, UsageError),
        (429, GatewayFailedError),
        (503, GatewayFailedError),
    ],
)
def test_status_decides_the_kind(status: int, kind: type[DeployError]) -> None:
    assert type(refused(status, {"title": "no"})) is kind


def test_field_detail_fix_and_trace_are_in_the_line() -> None:
    problem = {
        "field": "question",
        "detail": "question: Too long.",
        "fix": "Shorten question.",
        "trace_id": "ab12",
    }
    assert str(refused(422, problem)) == "question: Too long; Shorten question (trace ab12)"


def test_arefused_key_says_where_the_key_comes_from() -> None:
    assert "TWINRAIL_API_KEY" in str(refused(403, {"detail": "This needs the scope release."}))
