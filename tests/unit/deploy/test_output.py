"""Data on stdout, the rest on stderr."""

import io
import json

from deploy.output import Output, table


def test_json_is_one_line_on_stdout_and_notes_go_to_stderr() -> None:
    out = Output(as_json=True, stdout=io.StringIO(), stderr=io.StringIO())
    out.result({"status": "answered", "answer": "ja, ü"}, "for people")
    out.note("for the log")
    assert json.loads(out.stdout.getvalue()) == {"status": "answered", "answer": "ja, ü"}
    assert out.stderr.getvalue() == "for the log\n"


def test_table_aligns_and_leaves_no_trailing_spaces() -> None:
    text = table(("rail", "stable"), [("knowledge", "k-a"), ("model", "")])
    assert text.splitlines() == ["rail       stable", "knowledge  k-a", "model"]
