"""What a turn without a usable answer shows is marked like any other citation."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from gateway.access import ApiKey, Scope
from gateway.assembling import Context
from gateway.citations import CitationDesk
from gateway.turn import Question, Surface, TurnDraft
from gateway.verifying import Verifier
from serving.grounding import check_sentence
from tests.unit.gateway.test_citations import Store, source

KEY = ApiKey(
    id=uuid4(),
    name="customer",
    tenant="acme",
    principals=("public",),
    scopes=frozenset({Scope.ASK}),
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


async def test_found_passages_that_nobody_could_verify_degrade_the_turn() -> None:
    found = source(1)
    verifier = Verifier(
        desk=CitationDesk(Store(away=True)),  # type: ignore[arg-type]
        check_sentence=check_sentence,
    )
    turn = TurnDraft(id=uuid4(), key=KEY, surface=Surface.ANSWERS, trace_id="t", snapshot=1)
    context = Context(
        candidates={1: found}, sources={1: found}, passages=(found.passage,), messages=(), tokens=0
    )
    cited = await verifier.found(Question(text="How much?", key=KEY, conversation_id="c"), turn, context)
    assert [one.citation.document_id for one in cited] == ["doc-1"]
    assert turn.degraded == ["citations"]
