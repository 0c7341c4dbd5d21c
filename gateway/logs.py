"""How the log reads: one line a record, with the `trace_id` that a problem names and an `action` to grep for.

Fields come from `extra=`; the trace id is that of the current span where none is given.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import orjson
from opentelemetry import trace

#: What every record has, and what uvicorn adds for terminals.
_NOT_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}
_FIRST: Final = ("action", "trace_id")


class LineFormatter(logging.Formatter):
    """`time LEVEL logger message action=... trace_id=... field=...`, a traceback as the last field."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in the record."""
        fields = {name: value for name, value in vars(record).items() if name not in _NOT_FIELDS}
        fields["trace_id"] = fields.get("trace_id") or _current_trace_id()
        names = [*_FIRST, *sorted(fields.keys() - set(_FIRST))]
        parts = [f"{name}={_value(fields[name])}" for name in names if fields.get(name) not in (None, "")]
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        head = _one_line(self.formatMessage(record))
        if record.exc_info and record.exc_info[0] is not None:
            parts.append(f"error={_value(self.formatException(record.exc_info))}")
        if record.stack_info:
            parts.append(f"stack={_value(self.formatStack(record.stack_info))}")
        return " ".join([head, *parts])


def setup_logs(level: str) -> None:
    """Send the process's logs to stderr. Called in the entry point only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _current_trace_id() -> str:
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def _value(value: Any) -> str:
    """As it is where that is one word, else as JSON."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if text.isprintable() and not set(text) & set(' "=') else orjson.dumps(text).decode()


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
