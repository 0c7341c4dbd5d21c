"""The event parser gives the same events however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import EngineStreamError
from serving.sse import MAX_EVENT_BYTES, EventParser

texts = st.lists(
    st.text(alphabet=st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=6
)


@given(texts, st.data(), st.sampled_from(["\n", "\r\n"]))
def test_any_cutting_gives_the_same_events(payloads: list[str], data: st.DataObject, end: str) -> None:
    wire = "".join(f": keep-alive{end}{end}data: {text}{end}{end}" for text in payloads).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    parser = EventParser()
    events = [
        event
        for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True)
        for event in parser.feed(wire[start:stop])
    ]
    assert [event.decode() for event in events] == payloads


def test_lines_of_one_event_are_joined() -> None:
    assert EventParser().feed(b"data: a\ndata:b\nid: 7\n\n") == [b"a\nb"]


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(EngineStreamError):
        EventParser().feed(b"x" * (MAX_EVENT_BYTES + 1))
