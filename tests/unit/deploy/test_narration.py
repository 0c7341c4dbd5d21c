"""An ingest says how far it is: seldom, and in every stage."""

from __future__ import annotations

from deploy.knowledge import SAY_EVERY_S, Narrator
from retrieval.ingest_report import IngestProgress


def test_every_stage_is_told_and_not_too_often() -> None:
    said: list[str] = []
    now = 0.0
    narrator = Narrator(said.append, clock=lambda: now)
    for number in range(200):
        now += SAY_EVERY_S / 80
        narrator(IngestProgress(stage="read", done=0, total=1, documents=number))
    assert said == ["read 0 of 1 files, 79 documents", "read 0 of 1 files, 159 documents"]
    now += SAY_EVERY_S
    narrator(IngestProgress(stage="read", done=0, total=0))
    assert len(said) == 2  # there is nothing to tell yet
    for stage in ("embed", "publish"):
        now += SAY_EVERY_S
        narrator(IngestProgress(stage=stage, done=3, total=9))
    assert said[2:] == ["embed 3 of 9 passages", "publish 3 of 9 passages"]
