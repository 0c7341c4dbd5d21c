"""What a reranker is trained on: questions of sets and made ones, folds, lists without false negatives."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

import pytest

from retrieval.documents import Document
from retrieval.errors import RerankError
from retrieval.parsing import ParsedDocument
from retrieval.rerank_corpus import Piece
from retrieval.rerank_lists import MADE, read_rows, repeats
from retrieval.rerank_questions import fold_of, groups, made_questions, read_queries
from retrieval.rerank_rows import arguments, rows_of
from tests.fakes.embedding import WordEmbedder
from tests.fakes.rerank_rows import row

BODY = (
    "To change your plan, open the account page and choose another plan from the list.\n"
    "You can cancel a subscription at any time before it renews.\n"
    "If your payment fails, we try again after three days and send you a mail about it."
)


def piece(title: str = "Plans", path: tuple[str, ...] = ("Change a plan",), body: str = BODY) -> Piece:
    text = "\n".join([title, *path, body])
    return Piece(document=title.lower(), title=title, path=path, body=body, text=text)


# ---- questions -----------------------------------------------------------------------------------


def test_statements_become_questions_in_the_first_person() -> None:
    asked = {
        made.text
        for seed in range(40)
        for made in made_questions([piece()], random.Random(seed))
        if made.kind in ("made: how", "made: can", "made: if")
    }
    assert asked == {
        "how do i change my plan",
        "can i cancel a subscription at any time before it renews",
        "what happens if my payment fails",
    }


def test_a_whole_sentence_is_taken_out_of_its_passage() -> None:
    for seed in range(40):
        for made in made_questions([piece()], random.Random(seed)):
            if made.kind == "made: cloze" and len(made.text.split()) > 11:
                asked = set(made.text.split())
                left = [line for line in made.passage.splitlines() if len(asked & set(line.split())) > 8]
                assert left == []


def test_a_heading_asks_for_its_chunk() -> None:
    made = [
        each
        for seed in range(20)
        for each in made_questions([piece()], random.Random(seed))
        if each.kind == "made: heading"
    ]
    assert {each.passage for each in made} == {BODY, piece().text}
    assert all("change a plan" in each.text.lower() for each in made)


def test_the_question_of_a_pair_is_asked_against_its_answer() -> None:
    pair = piece(title="INN - Is there parking?", path=(), body="Q: Is there parking?\nA: Yes, for guests.")
    (made,) = made_questions([pair], random.Random(0))
    assert made.text == "Is there parking? (Inn)"
    assert "Yes, for guests." in made.passage
    assert "parking?" not in made.passage


def test_short_and_odd_chunks_make_nothing() -> None:
    assert list(made_questions([piece(body="Too short.")], random.Random(0))) == []
    assert list(made_questions([piece(body="| a | b |\n| 1 | 2 |\n| 3 | 4 |")], random.Random(0))) == []


def test_questions_that_share_a_document_are_in_one_fold() -> None:
    group = groups({"a": ["1"], "b": ["1", "2"], "c": ["2"], "d": ["3"]})
    assert group["a"] == group["b"] == group["c"] != group["d"]
    assert {fold_of(str(name)) for name in range(200)} == set(range(5))


def test_questions_of_a_set_with_rewrites_and_places(tmp_path: Path) -> None:
    queries = [
        {"id": "1", "text": "how much is it", "kind": "faq", "rewrite": "how much is a plan"},
        {"id": "2", "text": "is it quiet?", "kind": "faq"},
        {"id": "3", "text": "Is the Red Inn quiet?", "kind": "faq"},
    ]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
    (tmp_path / "qrels.tsv").write_text("q\td\tscore\n1\tplan\t1\n2\tinn\t1\n3\tinn\t1\n", encoding="utf-8")
    inn = Document(id="inn", title="t", text="t", metadata={"entity": "RED INN"})
    found = read_queries(tmp_path, [ParsedDocument(document=inn, blocks=(), origin="c")])
    assert [(each.id, each.kind, each.text) for each in found] == [
        ("1", "faq", "how much is it"),
        ("1+", "faq rewritten", "how much is a plan"),
        ("2+", "faq with its place", "is it quiet? (Red Inn)"),
        ("3", "faq", "Is the Red Inn quiet?"),
    ]


# ---- rows ----------------------------------------------------------------------------------------


def test_a_passage_that_repeats_the_positive_is_no_negative() -> None:
    positive = "you may cancel at any time before the day on which it renews"
    assert repeats("As said: you may cancel at any time before the day on which it renews.", [positive])
    assert not repeats("you may change the plan on any day of the month that suits", [positive])
    assert not repeats("", [positive])


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(asdict(row())) + "\n", encoding="utf-8")
    assert read_rows(path) == [row()]
    path.write_text('{"id": 1}\n', encoding="utf-8")
    with pytest.raises(RerankError, match=r"rows\.jsonl: not a file of rows"):
        read_rows(path)


async def test_rows_know_what_is_gold_and_leave_held_out_documents_alone(tmp_path: Path) -> None:
    names = ["Plans", "Billing", "Devices", "Sharing"]
    texts = [{"id": name, "title": name, "text": f"# {name}\n\n{BODY}\n{name} words."} for name in names]
    # Of two groups of questions the second is in the fold that is held out.
    kept, held = (next(n for n in map(str, range(99)) if (fold_of(n) == 0) is out) for out in (False, True))
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, texts)), encoding="utf-8")
    queries = [{"id": kept, "text": "plans?"}, {"id": held, "text": "billing?"}]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
    (folder / "qrels.tsv").write_text(f"q\td\ts\n{kept}\tPlans\t1\n{held}\tBilling\t1\n", encoding="utf-8")
    paths = [
        "--sets",
        str(folder),
        "--embedder",
        "none",
        "--vectors",
        str(tmp_path / "vectors"),
        "--out",
        "none",
    ]
    rows = await rows_of(folder, WordEmbedder(), arguments().parse_args(paths))
    asked = {each.id: each for each in rows if not each.kind.startswith(MADE)}
    assert asked.keys() == {kept, held}
    for each, document in ((asked[kept], "Plans"), (asked[held], "Billing")):
        assert [passage.document for passage in each.passages if passage.gold] == [document]
        assert each.found == len(each.passages) == 4
        assert [passage.fused for passage in each.passages] == sorted(
            (passage.fused for passage in each.passages), reverse=True
        )
    made = [each for each in rows if each.kind.startswith(MADE)]
    assert {each.group for each in made} == {"Plans", "Devices", "Sharing"}
    for each in made:
        assert [passage.document for passage in each.passages if passage.gold] == [each.group]
        assert each.group not in {passage.document for passage in each.passages[1:]}
