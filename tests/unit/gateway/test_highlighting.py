"""Sentences for a prompt: spans of their documents, the closest first, under their headings, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.assembling import Assembler, sources_of
from gateway.citations import Source
from gateway.highlighting import Highlighter, arrange, open_highlighter
from gateway.turn import Pinned, PinnedContext, Question
from retrieval.embedding import Vector
from retrieval.errors import EmbedderMismatchError, EmbedderUnavailableError
from retrieval.hits import Hit
from serving.grounding import check_sentence
from serving.prompting import MAX_SENTENCES, Passage, PromptTemplate
from serving.versions import RegisteredVersion
from tests.fakes.embedding import WordEmbedder
from tests.unit.gateway.test_chain import BASE, KEY
from tests.unit.gateway.test_citations import source as cited_source

PLANS = """All plans

Plus — Price: $9 a month
Team — Price: $14 a user

How to change a plan

You need the role owner. To change:

1. Open Settings > Plans in the web app.
2. Choose the new plan.

Can it wait?
A change down happens at the next renewal."""
REFUNDS = "Refunds arrive in 5 to 10 working days. A change down happens at the next renewal."


class AwayEmbedder(WordEmbedder):
    """A service that is down."""

    async def embed_query(self, text: str) -> object:  # type: ignore[override]
        raise EmbedderUnavailableError("away")


class SlowEmbedder(WordEmbedder):
    """Lets others go first."""

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        for _ in range(len(texts)):
            await asyncio.sleep(0)
        return await super().embed_documents(texts)


class NarrowEmbedder(WordEmbedder):
    """Says more dimensions than it gives."""

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        return (await super().embed_documents(texts))[:, :-1]


def hits() -> list[Hit]:
    template = cited_source(1).hit
    assert template is not None
    texts = {"plans": PLANS, "refunds": REFUNDS}
    return [
        replace(
            template, rank=n, document_id=name, title=name.title(), text=text, start=100, end=100 + len(text),
            score=1 / n,
        )
        for n, (name, text) in enumerate(texts.items(), 1)
    ]  # fmt: skip


def titled(*titles: str) -> list[Source]:
    return [
        Source(passage=Passage(n=9, title=title, text=str(n), start=0, end=1), hit=None)
        for n, title in enumerate(titles, 1)
    ]


def question(pin: Pinned | None = None, text: str = "when does a change down happen") -> Question:
    return Question(text=text, key=KEY, conversation_id="c", stream=False, pin=pin)


def showing_sentences(highlighter: Highlighter | None) -> tuple[Assembler, RegisteredVersion]:
    prompt = PromptTemplate(name="s", system="Answer.", shows="sentences")
    version = replace(BASE, version=replace(BASE.version, prompt=prompt))
    assembler = Assembler(
        count_tokens=lambda text: len(text.split()), history_messages=4, highlighter=highlighter
    )
    return assembler, version


async def test_each_sentence_is_a_span_of_its_document_and_none_is_shown_twice() -> None:
    ranked = await Highlighter(WordEmbedder()).rank("when does a change down happen", sources_of(hits()))
    documents = {"plans": PLANS, "refunds": REFUNDS}
    for source in ranked:
        passage = source.passage
        assert documents[source.document_id][passage.start - 100 : passage.end - 100] == passage.text
    texts = [(source.document_id, source.passage.text) for source in ranked]
    assert texts[0][1] == "A change down happens at the next renewal."
    assert len(set(texts)) == len(texts)
    twice = sources_of([hits()[0], hits()[0]])
    assert len(await Highlighter(WordEmbedder()).rank("q", twice)) == sum(
        name == "plans" for name, _ in texts
    )


async def headings_of(text: str) -> dict[str, str]:
    (first, *_) = hits()
    ranked = await Highlighter(WordEmbedder()).rank("q", sources_of([replace(first, text=text)]))
    return {source.passage.text: source.passage.heading for source in ranked}


async def test_headings_and_what_announces_a_list_stand_above_what_is_under_them() -> None:
    headings = await headings_of(PLANS)
    assert headings["Open Settings > Plans in the web app."] == "To change"
    assert headings["Plus \u2014 Price: $9 a month"] == "All plans"
    assert headings["You need the role owner."] == "How to change a plan"
    assert headings["A change down happens at the next renewal."] == "Can it wait?"
    assert not {"All plans", "Can it wait?", "To change:"} & set(headings)


async def test_what_announced_a_list_ends_with_it() -> None:
    headings = await headings_of(
        "Discounts\n\nNot included:\n\n- Backup Home\n- Sync Free\n\nThe 20 % applies to the yearly price."
    )
    assert headings["Backup Home"] == "Not included"
    assert headings["The 20 % applies to the yearly price."] == "Discounts"


async def test_a_heading_with_nothing_under_it_and_a_short_answer_to_one_are_shown() -> None:
    headings = await headings_of("How many devices can I use?\nUp to 5.\n\nOpening hours\n\n9 am to 5 pm")
    assert headings["Up to 5."] == "How many devices can I use?"
    assert {"Opening hours", "9 am to 5 pm"} <= set(headings)
    long = f"Annual plans of {' '.join(str(n) for n in range(1900, 1940))} are refunded in these:"
    assert (await headings_of(f"{long}\n\n- Plus is one of them."))[long] == ""


async def test_the_same_sentence_in_two_articles_is_shown_for_both() -> None:
    both = [replace(hit, text="Files are deleted after 30 days.") for hit in hits()]
    ranked = await Highlighter(WordEmbedder()).rank("deleted files", sources_of(both))
    assert [source.document_id for source in ranked] == ["plans", "refunds"]


async def test_a_heading_is_no_evidence_and_stands_in_no_citation() -> None:
    text = "Annual plans are refunded within 30 days in these cases:\n\n- You bought the wrong plan."
    (first, *_) = hits()
    (found,) = await Highlighter(WordEmbedder()).highlight(
        "refunded", sources_of([replace(first, text=text)])
    )
    assert found.passage.title == "Plans"
    assert not check_sentence("Annual plans are refunded within 30 days.", [found.passage]).supported


async def test_the_words_of_the_question_decide_between_sentences_that_are_as_close() -> None:
    ranked = await Highlighter(WordEmbedder()).rank("price of Team", sources_of(hits()))
    assert ranked[0].passage.text == "Team — Price: $14 a user"


async def test_a_sentence_that_is_not_close_is_marked_weak() -> None:
    ranked = await Highlighter(WordEmbedder()).rank("how do I cook an egg", sources_of(hits()))
    assert all(source.passage.weak for source in ranked)
    ranked = await Highlighter(WordEmbedder()).rank("Team price $14 a user", sources_of(hits()))
    assert not ranked[0].passage.weak
    unknown = open_highlighter([WordEmbedder()])
    ranked = await unknown.rank("how do I cook an egg", sources_of(hits()))
    assert not any(source.passage.weak for source in ranked)


async def test_known_sentences_are_embedded_once_and_the_oldest_are_forgotten() -> None:
    embedder = WordEmbedder()
    highlighter = Highlighter(embedder, remembered=2)
    plans, refunds = sources_of(hits())
    await highlighter.rank("refunds", [refunds])
    await highlighter.rank("renewal", [refunds])
    assert len(embedder.texts) == 2
    await highlighter.rank("plans", [plans])
    embedder.texts.clear()
    await highlighter.rank("refunds", [refunds])
    assert "Refunds arrive in 5 to 10 working days." in embedder.texts


async def test_what_was_embedded_before_the_time_was_up_is_kept() -> None:
    embedder = SlowEmbedder()
    assembler, version = showing_sentences(Highlighter(embedder))
    (first, *_) = hits()
    long = replace(first, text=" ".join(f"Sentence {n} is about renewals." for n in range(100)))
    first_try = await assembler.assemble(question(), version, [long], timeout_s=0.0)
    assert first_try.degraded == ("highlight",)
    asked = asyncio.create_task(assembler.assemble(question(), version, [long]))
    while len(embedder.texts) < 40:  # noqa: ASYNC110 (nothing says it)
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    before = len(embedder.texts)
    await assembler.assemble(question(), version, [long])
    assert len(embedder.texts) < before + 100


async def test_a_sentence_that_another_question_pushes_out_meanwhile_is_still_there() -> None:
    highlighter = Highlighter(SlowEmbedder(), remembered=2)
    plans, refunds = sources_of(hits())
    await highlighter.rank("refunds", [refunds])
    both, other = await asyncio.gather(
        highlighter.rank("refunds", [refunds, plans]), highlighter.rank("plans", [plans])
    )
    assert len(both) > len(other) > 2


async def test_vectors_of_another_size_are_refused_by_name() -> None:
    with pytest.raises(EmbedderMismatchError, match="dims"):
        await Highlighter(NarrowEmbedder()).rank("refunds", sources_of(hits()))


def test_sentences_of_one_title_stand_together_and_are_numbered_in_the_order_shown() -> None:
    arranged = arrange(titled("a", "b", "a", "c", "b"))
    assert [(each.passage.n, each.passage.title, each.passage.text) for each in arranged] == [
        (1, "a", "1"), (2, "a", "3"), (3, "b", "2"), (4, "b", "5"), (5, "c", "4"),
    ]  # fmt: skip


async def test_a_prompt_of_sentences_cites_and_records_the_documents_that_they_are_of() -> None:
    assembler, version = showing_sentences(Highlighter(WordEmbedder()))
    context = await assembler.assemble(question(), version, hits())
    assert context.degraded == ()
    assert 1 < len(context.passages) <= MAX_SENTENCES
    row = context.rows()[0]
    assert (row["n"], row["text"]) == (1, "A change down happens at the next renewal.")
    assert row["document_id"] in ("plans", "refunds")
    assert f"[1] {row['text']}" in context.messages[-1].content


async def test_a_follow_up_is_held_against_what_was_searched_for() -> None:
    assembler, version = showing_sentences(Highlighter(WordEmbedder()))
    follow_up = question(text="and for that one?")
    context = await assembler.assemble(follow_up, version, hits(), searched="price of Team")
    assert context.rows()[0]["text"] == "Team — Price: $14 a user"
    assert context.messages[-1].content.endswith("Question: and for that one?")


async def test_passages_that_the_caller_gave_keep_their_place_in_the_record() -> None:
    given = (
        PinnedContext(title="Refunds", text="Refunds arrive in 5 to 10 working days."),
        PinnedContext(title="Plans", text="Team costs $14 a user."),
    )
    assembler, version = showing_sentences(Highlighter(WordEmbedder()))
    asked = question(Pinned(context=given), text="what does Team cost a user")
    context = await assembler.assemble(asked, version, ())
    assert [(row["n"], row["text"], row["document_id"]) for row in context.rows()] == [
        (1, "Team costs $14 a user.", "context:2"),
        (2, "Refunds arrive in 5 to 10 working days.", "context:1"),
    ]


@pytest.mark.parametrize("highlighter", [None, Highlighter(AwayEmbedder())])
async def test_without_the_embedder_the_prompt_shows_windows_of_the_hits_and_says_so(
    highlighter: Highlighter | None,
) -> None:
    assembler, version = showing_sentences(highlighter)
    context = await assembler.assemble(question(), version, hits())
    assert context.degraded == ("highlight",)
    assert "A change down happens at the next renewal." in context.messages[-1].content


async def test_hits_without_a_sentence_are_shown_as_they_are() -> None:
    assembler, version = showing_sentences(Highlighter(WordEmbedder()))
    (first, *_) = hits()
    short = replace(first, text="Plus", end=104)
    context = await assembler.assemble(question(), version, [short])
    assert [passage.text for passage in context.passages] == ["Plus"]
