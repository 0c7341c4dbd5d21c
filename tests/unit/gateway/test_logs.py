"""The log's lines: one a record, with what a problem body promises to find there."""

from __future__ import annotations

import logging
import sys
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from gateway.logs import LineFormatter

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def line(message: str, *args: object, failed: bool = False, **extra: Any) -> str:
    """What a call with these arguments writes, without the time."""
    logger = logging.getLogger("gateway.app")
    record = logger.makeRecord(
        logger.name,
        logging.INFO,
        __file__,
        1,
        message,
        args,
        sys.exc_info() if failed else None,
        extra=extra,
    )
    return LineFormatter().format(record).split(" ", 2)[2]


def test_action_and_trace_id_stand_first_and_the_other_fields_behind() -> None:
    written = line("listening", port=8080, host="127.0.0.1", trace_id=TRACE, action="listening")
    assert written == f"INFO gateway.app listening action=listening trace_id={TRACE} host=127.0.0.1 port=8080"


def test_without_fields_nothing_is_added() -> None:
    assert line("%d done", 3) == "INFO gateway.app 3 done"


def test_the_trace_id_is_that_of_the_current_span_unless_one_is_given() -> None:
    context = SpanContext(int(TRACE, 16), 1, is_remote=False, trace_flags=TraceFlags(0))
    with trace.use_span(NonRecordingSpan(context)):
        assert line("busy") == f"INFO gateway.app busy trace_id={TRACE}"
        assert line("busy", trace_id="other").endswith("trace_id=other")


def test_a_record_is_one_line_and_its_traceback_a_field() -> None:
    try:
        int("two\nlines")
    except ValueError:
        written = line("un\nexpected", failed=True, action="request_failed")
    assert "\n" not in written
    assert written.startswith('INFO gateway.app un\\nexpected action=request_failed error="Traceback')
    assert "ValueError: invalid literal" in written


def test_values_with_blanks_are_quoted_and_lists_are_json() -> None:
    written = line("x", why='no "disk" left', turns=["a", "b"], none=None, color_message="\x1b[1mx")
    assert written == r'INFO gateway.app x turns="[\"a\",\"b\"]" why="no \"disk\" left"'
