"""`knowledge fit`: from a tenant's own documents or a file of labelled questions to a definition."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg_pool import AsyncConnectionPool

from deploy.commands.fitting import summary
from deploy.fitting import FitOrder, fit
from retrieval.building import build
from retrieval.calibrating import collect
from retrieval.confidence import Calibration
from retrieval.documents import Access
from retrieval.errors import RequestError, TooFewPairsError
from retrieval.hits import Said
from retrieval.ingest import ingest
from retrieval.questions import LabelledQuestion, read_questions
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion
from tests.fakes.embedding import WordEmbedder
from tests.fakes.parsers import shared_parsers

#: Sixty articles that share their frame and differ in one word each.
COLOURS = ("red", "blue", "gold", "grey", "pink", "teal")
THINGS = [f"{colour}{shape}" for colour in COLOURS for shape in "abcdefghij"]


@pytest.fixture
async def store(database_url: str, tmp_path: Path) -> AsyncIterator[KnowledgeStore]:
    async with AsyncConnectionPool(database_url, min_size=1, max_size=2, open=False) as pool:
        store, embedder = KnowledgeStore(pool), WordEmbedder()
        corpus = tmp_path / "corpus.jsonl"
        rows = [
            {
                "id": thing,
                "title": f"Returning a {thing} device",
                "text": f"A {thing} device can be returned within thirty days in its box with the receipt.",
            }
            for thing in THINGS
        ]
        corpus.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        await ingest(store, embedder, corpus, tenant="acme", source_name="help", parsers=shared_parsers())
        yield store


@pytest.fixture
def retriever(store: KnowledgeStore) -> Retriever:
    embedder = WordEmbedder()
    return Retriever(store=store, embedders={embedder.id: embedder})


async def order_of(store: KnowledgeStore, **changes: object) -> FitOrder:
    (version,) = await store.versions()
    order = FitOrder(
        tenant="acme",
        principals=("public",),
        version=version,
        questions="generated",
        limit=120,
        risk=0.3,
        unanswerable=0.2,
    )
    return replace(order, **changes)  # type: ignore[arg-type]


def labelled(path: Path, things: list[str]) -> str:
    rows = [{"text": f"How long may I return my {thing} device?", "gold": [thing]} for thing in things]
    rows += [{"text": f"Do you sell bicycles {number}?", "gold": []} for number in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


async def test_a_file_of_questions_becomes_a_definition(
    store: KnowledgeStore, retriever: Retriever, tmp_path: Path
) -> None:
    order = await order_of(store, questions=labelled(tmp_path / "asked.jsonl", THINGS))
    found = await fit(store, retriever, order)
    definition = json.loads(json.dumps(found.definition(order.version)))
    assert definition["version"] == order.version.id
    assert Calibration.from_definition(definition["calibration"]) == found.confidence.calibration
    evidence = definition["evidence"]
    assert (evidence["pairs"], evidence["questions"]) == (60, "asked.jsonl")
    assert evidence["quality"]["observations"] == 60 + 60 + 20
    assert evidence["quality"]["auroc"] > 0.8
    assert found.fitted is not None
    assert evidence["threshold"]["risk_bound"] <= 0.3
    text = summary(found, order.version, saved=False)
    assert "60 questions with an answer in 60 groups" in text
    assert "not saved; add --save" in text


async def test_gold_that_nobody_finds_is_refused_and_names_the_line(
    store: KnowledgeStore, retriever: Retriever, tmp_path: Path
) -> None:
    asked = Path(labelled(tmp_path / "asked.jsonl", THINGS))
    lines = asked.read_text(encoding="utf-8").splitlines()

    async def refused(line: dict[str, object], said: str) -> None:
        asked.write_text("\n".join([*lines[:3], json.dumps(line), *lines[3:]]), encoding="utf-8")
        order = await order_of(store, questions=str(asked))
        with pytest.raises(RequestError, match=said):
            await fit(store, retriever, order)

    await refused(
        {"text": "Is it red?", "gold": ["reda", "reddd"]},
        r"asked.jsonl:4: gold: tenant 'acme' has no live document 'reddd' that public may read \(1 such",
    )
    await refused(
        {"text": "Is it red?", "gold": ["reda"], "principals": ["staff"]},
        r"asked.jsonl:4: gold: tenant 'acme' has no live document 'reda' that staff may read",
    )


async def test_without_labels_the_documents_make_the_questions(
    store: KnowledgeStore, retriever: Retriever
) -> None:
    order = await order_of(store)
    found, again = [await fit(store, retriever, order) for _ in range(2)]
    assert found.evidence == again.evidence
    assert found.evidence["questions"] == "generated"
    assert found.evidence["pairs"] >= 60


async def test_a_risk_that_cannot_be_had_is_said_and_gives_no_threshold(
    store: KnowledgeStore, retriever: Retriever, tmp_path: Path
) -> None:
    asked = labelled(tmp_path / "asked.jsonl", THINGS)
    order = await order_of(store, questions=asked, risk=0.0001)
    found = await fit(store, retriever, order)
    assert found.fitted is None
    assert found.definition(order.version)["abstain_below"] is None
    assert "no threshold keeps the risk under 0.0001" in summary(found, order.version, saved=True)


async def test_too_few_questions_are_refused(
    store: KnowledgeStore, retriever: Retriever, tmp_path: Path
) -> None:
    order = await order_of(store, questions=labelled(tmp_path / "few.jsonl", THINGS[:49]))
    with pytest.raises(TooFewPairsError, match="49 with a known answer"):
        await fit(store, retriever, order)


async def test_searches_without_their_rewriter_are_nothing_to_fit_on(
    store: KnowledgeStore, retriever: Retriever
) -> None:
    embedder = WordEmbedder()
    version = KnowledgeVersion.make(
        name="talk", embedder=embedder.id, dims=embedder.dims, rewriter="nobody-1"
    )
    await store.register(version)
    await build(store, {embedder.id: embedder}, version.id)
    said = (Said(role="user", text="I want to return a device."),)
    question = LabelledQuestion(text="redb", gold=frozenset({"redb"}), group="g", history=said)
    with pytest.raises(RequestError, match="without its rewrite"):
        await collect(
            retriever, [question], access=Access(tenant="acme", principals=("public",)), version=version.id
        )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", r"asked.jsonl:1: not JSON"),
        ("[1]", r"asked.jsonl:1: not an object"),
        ('{"gold": []}', r"asked.jsonl:1: text: must be a question"),
        ('{"text": "a"}', r"asked.jsonl:1: gold: must be a list of document ids"),
        ('{"text": "a", "gold": ["x"], "history": [{"role": "user"}]}', r"asked.jsonl:1: history: must be"),
        ('{"text": "a", "gold": ["x"], "history": [{"role": "x", "text": "y"}]}', r"`role` is `user` or"),
        ('{"text": "a", "gold": ["x"], "principals": "public"}', r"asked.jsonl:1: principals: must be"),
    ],
)
def test_a_file_that_cannot_be_used_names_line_and_field(line: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(RequestError, match=problem):
        read_questions(path)


def test_questions_that_share_a_document_are_one_group(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    golds = [["a", "b"], ["b", "c"], ["d"], []]
    path.write_text("\n".join(json.dumps({"text": "x", "gold": gold}) for gold in golds), encoding="utf-8")
    first, second, third, fourth = [each.group for each in read_questions(path)]
    assert first == second
    assert len({first, third, fourth}) == 3
