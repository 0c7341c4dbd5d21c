"""Recording: never in the way, never lost, readable at once."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from gateway.errors import RecordsUnavailableError
from gateway.identifiers import new_turn_id
from gateway.recorder import TurnRecorder
from gateway.spool import Spool
from gateway.turns import UnstorableTurnError


class Store:
    """Keeps what is written. While `away`, it cannot be reached; ids in `refused` it never takes."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}
        self.batches: list[int] = []
        self.away = False
        self.refused: set[str] = set()
        self.failure: Exception | None = None

    async def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self.away:
            raise RecordsUnavailableError
        if any(row["id"] in self.refused for row in rows):
            raise UnstorableTurnError("bad row")
        self.batches.append(len(rows))
        self.rows.update({row["id"]: row for row in rows})


class FullSpool(Spool):
    """A spool on a full disk."""

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def row(tenant: str = "acme") -> dict[str, Any]:
    return {"id": str(new_turn_id()), "tenant": tenant}


async def test_turns_are_written_in_batches_and_readable_before(tmp_path: Path) -> None:
    store = Store()
    async with TurnRecorder(store, Spool(tmp_path), flush_s=0.05) as recorder:
        rows = [row() for _ in range(30)]
        for entry in rows:
            recorder.record(entry)
        assert recorder.pending(UUID(rows[0]["id"])) == rows[0]
        assert recorder.pending_of("acme")[0] == rows[-1]
        assert recorder.pending_of("globex") == []
        await recorder.flushed()
        assert recorder.pending(UUID(rows[0]["id"])) is None
    assert len(store.rows) == 30
    assert len(store.batches) < 5


async def test_leaving_flushes(tmp_path: Path) -> None:
    store = Store()
    async with TurnRecorder(store, Spool(tmp_path), flush_s=1.0) as recorder:
        recorder.record(row())
    assert len(store.rows) == 1


async def test_an_outage_goes_to_the_spool_and_comes_back(tmp_path: Path) -> None:
    store, spool = Store(), Spool(tmp_path)
    store.away = True
    rows = [row() for _ in range(3)]
    async with TurnRecorder(store, spool, flush_s=0.01) as recorder:
        for entry in rows:
            recorder.record(entry)
            await recorder.flushed()
        assert recorder.pending(UUID(rows[0]["id"])) == rows[0]
    assert store.rows == {}  # the process ended during the outage
    assert not spool.is_empty

    store.away = False
    async with TurnRecorder(store, spool, flush_s=0.01) as recorder:
        recorder.record(row())
        await recorder.flushed()
    assert set(store.rows) > {entry["id"] for entry in rows}
    assert spool.is_empty


async def test_one_refused_turn_does_not_hold_up_the_others(tmp_path: Path) -> None:
    store = Store()
    rows = [row() for _ in range(3)]
    store.refused = {rows[1]["id"]}
    async with TurnRecorder(store, Spool(tmp_path), flush_s=0.05) as recorder:
        for entry in rows:
            recorder.record(entry)
    assert set(store.rows) == {rows[0]["id"], rows[2]["id"]}
    kept = orjson.loads((tmp_path / "turns.refused.jsonl").read_bytes())
    assert kept["turn"]["id"] == rows[1]["id"]


async def test_an_error_that_nobody_listed_loses_no_turn(tmp_path: Path) -> None:
    store = Store()
    async with TurnRecorder(store, Spool(tmp_path), flush_s=0.01) as recorder:
        store.failure = RuntimeError("not thought of")
        first, second = row(), row()
        recorder.record(first)
        await recorder.flushed()
        recorder.record(second)
        await recorder.flushed()
    assert set(store.rows) == {first["id"], second["id"]}


async def test_a_turn_that_is_no_json_is_lost_alone(tmp_path: Path) -> None:
    store = Store()
    entries = [row(), row() | {"answer": object()}]
    async with TurnRecorder(store, Spool(tmp_path), flush_s=0.01) as recorder:
        store.failure = RuntimeError("not thought of")
        for entry in entries:
            recorder.record(entry)
        await recorder.flushed()
    assert set(store.rows) == {entries[0]["id"]}
    assert recorder.waiting == 0


async def test_neither_database_nor_disk_keeps_turns_in_memory(tmp_path: Path) -> None:
    store = Store()
    store.away = True
    async with TurnRecorder(store, FullSpool(tmp_path), flush_s=0.01) as recorder:
        entry = row()
        recorder.record(entry)
        await asyncio.sleep(0.1)
        assert recorder.pending(UUID(entry["id"])) == entry
        store.away = False
        await recorder.flushed()
    assert entry["id"] in store.rows


def test_a_cut_off_line_is_skipped_and_the_rest_replayed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([{"id": "1"}, {"id": "2"}])
    with (tmp_path / "turns.jsonl").open("ab") as file:
        file.write(b'{"id": "3')
    assert [entry["id"] for entry in spool.take()] == ["1", "2"]
    assert [entry["id"] for entry in spool.take()] == ["1", "2"]  # until it is done
    spool.done()
    assert spool.is_empty
