"""Problems: every error has one, by the nearest class of its MRO, and says what to do."""

from __future__ import annotations

import inspect

import orjson
import pytest
from pydantic import ValidationError

import gateway.errors
import retrieval.errors
import serving.errors
from gateway.errors import OverloadedError
from gateway.problems import KINDS, from_error, kind_of
from gateway.schemas.answers import AnswerRequest
from retrieval.errors import (
    FilterError,
    ParsingProcessError,
    RetrievalError,
    StoreFullError,
    StoreUnavailableError,
)
from serving.errors import (
    EngineStreamError,
    EngineUnavailableError,
    ModelNotServedError,
    RegistryUnavailableError,
    ServingError,
)

ROOTS = {
    gateway.errors: gateway.errors.GatewayError,
    retrieval.errors: retrieval.errors.RetrievalError,
    serving.errors: serving.errors.ServingError,
}
ALL = [
    cls
    for module, root in ROOTS.items()
    for _, cls in inspect.getmembers(module, inspect.isclass)
    if issubclass(cls, root)
]


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_error_of_the_rails_and_of_the_gateway_has_a_kind(cls: type[Exception]) -> None:
    assert any(parent in KINDS for parent in cls.__mro__)


def test_the_nearest_class_decides() -> None:
    assert kind_of(EngineStreamError()).slug == "model-unavailable"
    assert kind_of(StoreFullError()).slug == "knowledge-failed"
    assert kind_of(FilterError("filters.colour: unknown")).status == 422
    assert kind_of(ZeroDivisionError()).status == 500


def test_a_reader_that_does_not_start_may_be_asked_again_later() -> None:
    problem = from_error(ParsingProcessError("the parsing process does not start: /srv/secret"), trace_id="t")
    assert (problem.status, problem.kind.slug) == (503, "reader-unavailable")
    assert b"retry-after" in dict(problem.http_headers())
    assert b"secret" not in problem.encoded()
    assert ParsingProcessError.retryable


def test_the_inside_stays_inside() -> None:
    problem = from_error(ZeroDivisionError("secret path /srv"), trace_id="t")
    assert b"secret" not in problem.encoded()


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailableError('connection to "db.internal", port 5432 failed: user "twinrail"'),
        RegistryUnavailableError("db.internal"),
        EngineUnavailableError("http://10.0.0.7:8000: db.internal"),
        ModelNotServedError("http://db.internal"),
    ],
)
def test_what_failed_inside_is_for_the_log(
    error: RetrievalError | ServingError, caplog: pytest.LogCaptureFixture
) -> None:
    problem = from_error(error, trace_id="t")
    assert problem.kind.title in problem.detail
    for inside in (b"internal", b"10.0.0.7", b"5432"):
        assert inside not in problem.encoded()
    assert "db.internal" in caplog.text


def test_retry_after_is_a_header_in_whole_seconds() -> None:
    headers = dict(from_error(OverloadedError(retry_after_s=0.2), trace_id="t").http_headers())
    assert headers[b"retry-after"] == b"1"
    headers = dict(from_error(EngineUnavailableError(retry_after_s=7.3), trace_id="t").http_headers())
    assert headers[b"retry-after"] == b"8"


def test_validation_names_every_field_the_first_on_top() -> None:
    with pytest.raises(ValidationError) as caught:
        AnswerRequest.model_validate({"question": "", "colour": 1, "pin": {"context": [{"title": "x"}]}})
    body = orjson.loads(from_error(caught.value, trace_id="t").encoded())
    fields = [error["field"] for error in body["errors"]]
    assert body["field"] == fields[0]
    assert {"question", "colour", "pin.context.0.text"} <= set(fields)
    assert all(error["fix"] for error in body["errors"])


def test_openai_clients_find_their_error_member() -> None:
    body = orjson.loads(from_error(OverloadedError(), trace_id="t").encoded(openai=True))
    assert body["error"]["type"] == "rate_limit_error"
    assert body["error"]["code"] == "overloaded"
    assert body["title"]
