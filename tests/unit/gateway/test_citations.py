"""Citations: numbers from the model, words from the store, and nothing in between."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.citations import CitationDesk, Evidence, Source, gather_evidence
from gateway.drafting import CheckedSentence
from retrieval.documents import Access, TextSpan
from retrieval.errors import StoreUnavailableError
from retrieval.hits import Hit
from serving.grounding import Support
from serving.prompting import Passage

ACCESS = Access(tenant="acme", principals=("public",))
TEXT = "Sync Plus costs $9 a month."


def passage(n: int, *, start: int = 100) -> Passage:
    return Passage(n=n, title=f"Article {n}", text=TEXT, start=start, end=start + len(TEXT))


def source(n: int) -> Source:
    hit = Hit(
        rank=n,
        chunk_id=n,
        document_id=f"doc-{n}",
        document_version=3,
        title=f"Article {n}",
        url=f"https://help.example/{n}",
        heading_path=(),
        text=TEXT,
        start=100,
        end=100 + len(TEXT),
        score=1.0,
        dense_score=1.0,
        lexical_score=1.0,
        effective_from=None,
        effective_to=None,
        metadata={},
    )
    return Source(passage=passage(n), hit=hit)


def sentence(n: int | None, *, claim: bool = True) -> CheckedSentence:
    support = Support(
        supported=True, score=0.9, is_claim=claim, n=n, start=100 if n else None, end=127 if n else None
    )
    return CheckedSentence(text="It is $9.", start=0, end=9, support=support, tone=(), released=True)


def only_in(n: int) -> object:
    """A check that finds every sentence in passage n, if it may look there."""

    def check(_sentence: str, passages: Sequence[Passage], *, question: str = "") -> Support:
        assert question == ""
        found = any(candidate.n == n for candidate in passages)
        return Support(supported=found, score=1.0, is_claim=True, n=n if found else None, start=100, end=127)

    return check


class Store:
    """Stored texts by document; the rest of the rail is not asked."""

    def __init__(self, text: str | None = TEXT, *, away: bool = False) -> None:
        self.text = text
        self.away = away
        self.asked: list[tuple[TextSpan, ...]] = []

    async def text_spans(self, access: Access, spans: Sequence[TextSpan]) -> list[str | None]:
        assert access == ACCESS
        self.asked.append(tuple(spans))
        if self.away:
            raise StoreUnavailableError
        return [None if self.text is None else self.text[span.start - 100 : span.end - 100] for span in spans]


def evidence(n: int = 1, start: int = 100, end: int = 127) -> Evidence:
    return Evidence(n=n, start=start, end=end, answer_start=0, answer_end=9)


def test_a_number_that_was_not_in_the_prompt_is_flagged() -> None:
    found, flags = gather_evidence([sentence(1)], (1, 9), [passage(1)], only_in(1))  # type: ignore[arg-type]
    assert [item.n for item in found] == [1]
    assert flags == ["citation 9: there is no such hit in the prompt"]


def test_the_passage_that_the_model_named_is_preferred_if_it_holds_the_claim() -> None:
    both = [passage(1), passage(2)]
    found, flags = gather_evidence([sentence(1)], (2,), both, only_in(2))  # type: ignore[arg-type]
    assert ([item.n for item in found], flags) == ([2], [])
    found, flags = gather_evidence([sentence(1)], (2,), both, only_in(1))  # type: ignore[arg-type]
    assert ([item.n for item in found], flags) == ([1], ["citation 2: supports no sentence"])


def test_sentences_without_a_claim_need_no_source() -> None:
    found, _ = gather_evidence([sentence(1, claim=False)], (), [passage(1)], only_in(1))  # type: ignore[arg-type]
    assert found == []


async def test_the_quote_is_the_stored_text() -> None:
    store = Store()
    citations = await CitationDesk(store).cite(  # type: ignore[arg-type]
        [evidence(), evidence(start=105, end=109), evidence()], {1: source(1)}, access=ACCESS, snapshot=4
    )
    assert [item.citation.quote for item in citations.cited] == [TEXT, TEXT[5:9]]
    # All of them in one question.
    assert store.asked == [(TextSpan("doc-1", 3, 100, 127), TextSpan("doc-1", 3, 105, 109))]
    assert citations.cited[0].citation.snapshot == 4


async def test_other_text_and_gone_documents_are_dropped_and_flagged() -> None:
    for text, words in (("Sync Plus costs $7 a month.", "differs"), (None, "gone")):
        citations = await CitationDesk(Store(text)).cite(  # type: ignore[arg-type]
            [evidence()], {1: source(1)}, access=ACCESS, snapshot=4
        )
        assert citations.cited == ()
        assert citations.invalid == 1
        assert words in citations.flags[0]


async def test_a_store_that_is_away_leaves_what_retrieval_had_read_and_says_so() -> None:
    citations = await CitationDesk(Store(away=True)).cite(  # type: ignore[arg-type]
        [evidence()], {1: source(1)}, access=ACCESS, snapshot=4
    )
    assert citations.unverified
    assert citations.cited[0].citation.quote == TEXT
