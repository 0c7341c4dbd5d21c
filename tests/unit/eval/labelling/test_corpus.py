"""Articles and look-ups of a run: kept in its folder, asked once, and unknown where nobody could tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.cases import Case
from eval.documents import DocumentHistory, snapshot_of
from eval.errors import RunError, StorageError
from eval.labelling.corpus import Corpus, CorpusFile, look_up
from eval.observations import Ranking
from tests.unit.eval.labelling.turns import corpus, evidence, history


class Library:
    """Two articles, of which one is for staff; one sentence cannot be searched for."""

    def __init__(self, *askers: str) -> None:
        self.askers = frozenset(askers)
        self.asked: list[str] = []

    async def document(self, document_id: str) -> DocumentHistory:
        self.asked.append(document_id)
        readers = ("staff",) if document_id == "notes" else ("customer", "staff")
        return history(f"About {document_id}.", document_id=document_id, readers=readers)

    async def search(self, case: Case, knowledge: str, *, depth: int) -> Ranking:
        assert case.asker == "staff"
        self.asked.append(case.text)
        if case.text == "Too long.":
            return Ranking(case_id=case.id, knowledge=knowledge, error="422")
        found = ("notes", "plus")
        return Ranking(
            case_id=case.id, knowledge=knowledge, hits=tuple(evidence(each, "x") for each in found)
        )


async def asked(library: Library, known: Corpus) -> Corpus:
    return await look_up(
        library,
        known,
        documents=["plus", "plus"],
        sentences=["It is so.", "Too long.", "It is so."],
        knowledge="k-a-1@7",
        at_once=2,
    )


async def test_each_thing_is_asked_once_and_a_failed_search_stays_unknown() -> None:
    library = Library("customer", "staff")
    found = await asked(library, Corpus())
    assert set(found.documents) == {"plus", "notes"}
    assert found.staff_only == {"It is so.": ("notes",)}
    assert sorted(library.asked) == ["It is so.", "Too long.", "notes", "plus"]
    library.asked.clear()
    assert await asked(library, found) == found
    assert library.asked == ["Too long."]


async def test_without_the_staffs_key_nothing_is_said_of_internal_documents() -> None:
    library = Library("customer")
    found = await asked(library, Corpus())
    assert (set(found.documents), found.staff_only, library.asked) == ({"plus"}, {}, ["plus"])


def test_the_file_gives_back_what_was_written_and_names_a_bad_line(tmp_path: Path) -> None:
    file = CorpusFile(tmp_path)
    assert file.read() == Corpus()
    known = corpus(history("a", "b"), history(document_id="gone"), staff_only={"It is so.": ("plus",)})
    file.write(known)
    assert file.read() == known
    first = (tmp_path / "documents.jsonl").read_bytes()
    file.write(known)
    assert (tmp_path / "documents.jsonl").read_bytes() == first
    (tmp_path / "documents.jsonl").write_bytes(first + b"{}\n")
    with pytest.raises(RunError, match=r"documents.jsonl:4"):
        file.read()
    with pytest.raises(StorageError, match=r"gone.documents.jsonl: No such file"):
        CorpusFile(tmp_path / "gone").write(known)


def test_a_history_knows_what_each_snapshot_showed() -> None:
    told = history("first", "second", live=False)
    assert [version.text if (version := told.at(n)) else None for n in (0, 1, 2, 3)] == [
        None,
        "first",
        "second",
        None,
    ]
    assert told.live is None
    assert history("first").live is not None
    dated = history("x", since=("2026-01-01",), until="2026-06-30").versions[0]
    assert [dated.holds_on(day) for day in ("2025-12-31", "2026-01-01", "2026-06-30", "2026-07-01")] == [
        False,
        True,
        True,
        False,
    ]
    assert (snapshot_of("k-a-1@12"), snapshot_of("k-a-1"), snapshot_of("")) == (12, None, None)
