"""Server-sent events from bytes that arrive in any pieces."""

from __future__ import annotations

from serving.errors import EngineStreamError

#: An event larger than this is not a token of ours.
MAX_EVENT_BYTES = 1 << 20


class EventParser:
    """Collects the `data` of events. Bytes are cut at line ends only, so a split UTF-8 character stays
    whole."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that this piece completes."""
        buffer = self._rest + piece if self._rest else piece
        *lines, self._rest = buffer.split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EngineStreamError(f"the engine sent more than {MAX_EVENT_BYTES} bytes without a line end")
        events: list[bytes] = []
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line and self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
            # Comments (keep-alives) and other fields carry nothing for us.
        return events
