"""How far the knowledge came: stored, in force, found, and in the prompt. Each step is a check of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from eval.arms import NO_CONTEXT, Arm
from eval.cases import Case
from eval.documents import DocumentHistory, PastVersion, snapshot_of
from eval.labelling.checks import check
from eval.labelling.corpus import Corpus
from eval.labelling.equivalence import (
    Facts,
    Place,
    missing_in,
    perhaps_reworded,
    places,
    same_statement,
)
from eval.labelling.labels import Check
from eval.matching import shown, stale_values_in
from eval.observations import Evidence, Observation, Ranking
from eval.scorers import Subject
from serving.sentences import content_stems

#: Share of two titles' words from which they name one subject: on the demo, those of an article and the one
#: before it share 0.4 to 1, those of two other articles 0.4 at most.
_SAME_TITLE = 0.5
_WORD = re.compile(r"[a-z]+|\d+")


def knowledge_checks(subject: Subject, arm: Arm, corpus: Corpus) -> Iterator[Check]:
    """From the corpus to the prompt, for questions whose articles are known."""
    case, seen = subject.case, subject.seen
    given = arm.pin.context != NO_CONTEXT
    yield check(
        "given", given, "documents in the prompt" if given else "this arm answers from the prompt alone"
    )
    if not case.gold:
        return
    histories = corpus.histories(case.gold)
    context = _context(case, seen, histories) if given else None
    if context is not None and context.value:
        # What stood in the prompt was stored, in force and found.
        yield check("known", True, "it stood in the prompt")
        yield check("current", True, "it stood in the prompt")
    else:
        yield from _corpus(case, seen, arm, histories)
    if context is None:
        return
    yield check("shown", bool(seen.packed), f"{len(seen.packed)} passages in the prompt")
    yield context
    old = _stale_passages(case, seen.packed, histories)
    yield check("old_in_context", bool(old), "; ".join(old) or "no superseded value in the prompt")
    if not context.value and arm.retrieves:
        yield from _retrieval(case, subject, histories)


# ---- the corpus --------------------------------------------------------------------------------


def _corpus(
    case: Case, seen: Observation, arm: Arm, histories: Sequence[DocumentHistory] | None
) -> Iterator[Check]:
    if histories is None:
        for name in ("stored", "known", "current", "old_live"):
            yield check(name, None, "the articles were not read; label with the gateway")
        return
    snapshot = snapshot_of(seen.knowledge_version or arm.pin.knowledge or "")
    heads = [history.live for history in histories]
    searched = [history.at(history.head if snapshot is None else snapshot) for history in histories]
    gone = [history.id for history, version in zip(histories, heads, strict=True) if version is None]
    yield check("stored", not gone, f"not in the corpus: {', '.join(gone)}" if gone else "every article")
    hidden = [history.id for history in histories if history.readers and case.asker not in history.readers]
    yield check("readable", not hidden, f"hidden from whoever asks: {', '.join(hidden)}" if hidden else "yes")
    yield _stated("known", case, [version for history in histories for version in history.versions], "stored")
    day = (seen.asked_at or case.asked_at)[:10]
    in_force = [version for version in searched if version and (not day or version.holds_on(day))]
    now = _stated("live_now", case, [version for version in heads if version], "live")
    yield now
    then = _stated("current", case, in_force, "searched and in force")
    late = [version for version in searched if version and day and not version.holds_on(day)]
    yield check("in_force", not late, _dates(late) if late else "yes")
    yield then
    yield _old_live(case, seen, histories, searched)


def _stated(name: str, case: Case, versions: Sequence[PastVersion], what: str) -> Check:
    """Whether the versions state every fact; None where the words are there in another order."""
    if not case.vital_facts:
        return check(name, bool(versions), f"{len(versions)} {what}; the set names no facts")
    missing = missing_in(case.vital_facts, [version.words for version in versions])
    if not missing:
        return check(name, True, f"{what}: every fact")
    told = ", ".join(fact[0] for fact in missing)
    if all(perhaps_reworded(fact, [version.words for version in versions]) for fact in missing):
        return check(name, None, f"{what}, perhaps in other words: {told}")
    return check(name, False, f"in no version that is {what}: {told}")


def _old_live(
    case: Case,
    seen: Observation,
    histories: Sequence[DocumentHistory],
    searched: Sequence[PastVersion | None],
) -> Check:
    """Whether something that is no longer true stands where the current text should stand."""
    for history, version in zip(histories, searched, strict=True):
        if version is None:
            continue
        if old := stale_values_in(version.words, case.stale_values):
            return check("old_live", True, f"{history.id} still says {', '.join(old)}")
        newer = [
            other.version
            for other in history.versions
            if other.effective_from > version.effective_from
            and not missing_in(case.vital_facts, [other.words])
        ]
        if case.vital_facts and newer and missing_in(case.vital_facts, [version.words]):
            return check(
                "old_live", True, f"{history.id}: version {version.version} took the place of {newer[-1]}"
            )
    passages = _stale_passages(case, seen.packed, histories)
    if passages:
        return check("old_live", True, "; ".join(passages))
    return check("old_live", False, "no superseded value in its place")


def _stale_passages(
    case: Case, packed: Iterable[Evidence], histories: Sequence[DocumentHistory] | None
) -> list[str]:
    """Passages of articles before the current one that state a superseded value. In any other article the
    same value can be true: "$12" is in many price lists."""
    return [
        f"[{item.passage.n}] {item.document_id} says {', '.join(old)}"
        for item in packed
        if item.document_id not in case.gold
        and _precedes(item, case.gold, histories or ())
        and (old := stale_values_in(f"{item.passage.title}\n{item.passage.text}", case.stale_values))
    ]


def outdated_values(
    case: Case, text: str, packed: Sequence[Evidence], histories: Sequence[DocumentHistory] | None
) -> tuple[str, ...]:
    """Superseded values that a text states. With the current facts before it, a text may state such a value
    of something else: "Sync Free: 30 days" is true when those of Backup are over."""
    old = [value for value in case.stale_values if stale_values_in(text, [value])]
    if not old or missing_in(case.vital_facts, _texts(packed, None)):
        return stale_values_in(text, old)
    current = [
        place
        for item in packed
        if item.document_id in case.gold or not _precedes(item, case.gold, histories or ())
        # Without the title: what an article is about is said of each value in it, of the wrong ones too.
        for place in places(item.passage.text, "")
    ]
    said = [place for place in places(text, "") if stale_values_in(place.text, old)]
    return tuple(
        shown(value)
        for value in old
        if not all(
            same_statement([value], [place], current, question=case.text)
            for place in said
            if stale_values_in(place.text, [value])
        )
    )


def _precedes(item: Evidence, gold: Sequence[str], histories: Sequence[DocumentHistory]) -> bool:
    """Whether a passage is of an article that a gold one took the place of, by title or by id."""
    words = set(_WORD.findall(item.document_id.lower()))
    if any(len(own := set(_WORD.findall(each.lower()))) > 1 and own < words for each in gold):
        return True
    title = set(content_stems(item.passage.title))
    titles = [set(content_stems(version.title)) for history in histories for version in history.versions]
    return any(len(title & other) >= _SAME_TITLE * len(title | other) for other in titles if title and other)


def _dates(versions: Sequence[PastVersion]) -> str:
    return "; ".join(
        f"{version.title}: from {version.effective_from or '-'} to {version.effective_to or '-'}"
        for version in versions
    )


# ---- from the corpus to the prompt -------------------------------------------------------------


def _context(case: Case, seen: Observation, histories: Sequence[DocumentHistory] | None) -> Check:
    if not case.vital_facts:
        shown = [item.document_id for item in seen.packed if item.document_id in case.gold]
        return check("in_context", bool(shown), ", ".join(dict.fromkeys(shown)) or "no article of the answer")
    missing = missing_in(case.vital_facts, _texts(seen.packed, case.gold))
    if not missing:
        return check("in_context", True, "every fact")
    others = [item for item in seen.packed if item.document_id not in case.gold]
    gold = [
        place
        for history in histories or ()
        for version in history.versions
        for place in places(version.text, version.title)
    ]
    alike = {fact: _elsewhere(fact, case, others, histories, gold) for fact in missing}
    left = [fact for fact in missing if alike[fact] is None]
    if not left:
        told = "; ".join(f"{fact[0]}: {where}" for fact, where in alike.items())
        return check("in_context", True, f"stated alike outside of the gold articles: {told}")
    told = ", ".join(fact[0] for fact in left)
    texts = _texts(others, None)
    if all(any(not missing_in((fact,), [text]) for text in texts) for fact in left):
        # The same words in another article can be the answer or a coincidence: "$9" is in many price lists.
        return check("in_context", None, f"only in an article that is not known to answer this: {told}")
    return check("in_context", False, f"not in the prompt: {told}")


def _elsewhere(
    fact: Sequence[str],
    case: Case,
    others: Iterable[Evidence],
    histories: Sequence[DocumentHistory] | None,
    gold: Sequence[Place],
) -> str | None:
    """Where an article that is no gold one, nor one before it, states a fact as the gold articles do."""
    for item in others:
        passage = item.passage
        if _precedes(item, case.gold, histories or ()) or stale_values_in(passage.text, case.stale_values):
            continue
        found: Place | None = same_statement(
            fact, places(passage.text, passage.title), gold, question=case.text
        )
        if found is not None:
            return f'{item.document_id} says "{found.text}"'
    return None


def _texts(items: Iterable[Evidence], documents: Sequence[str] | None) -> list[str]:
    return [
        f"{item.passage.title}\n{item.passage.text}"
        for item in items
        if documents is None or item.document_id in documents
    ]


def _retrieval(case: Case, subject: Subject, histories: Sequence[DocumentHistory] | None) -> Iterator[Check]:
    seen, ranking = subject.seen, subject.ranking
    missing = missing_in(case.vital_facts, _texts(seen.packed, case.gold))
    wanted = _holders(case, missing, histories)
    unfound = [document for document in wanted if document not in seen.retrieved]
    yield check("found", not unfound, f"not found: {', '.join(unfound)}" if unfound else ", ".join(wanted))
    if ranking is None or ranking.error:
        return
    absent = [document for document in wanted if document not in ranking.documents]
    yield check(
        "findable", not absent, f"not found: {', '.join(absent)}" if absent else _ranks(wanted, ranking)
    )
    unhit = missing_in(missing, _texts(ranking.hits, case.gold))
    fact_found = not unhit if case.vital_facts else not absent
    yield check(
        "fact_found",
        fact_found,
        "in a hit"
        if fact_found
        else f"in no hit: {', '.join(fact[0] for fact in unhit) or ', '.join(absent)}",
    )


def _holders(case: Case, missing: Facts, histories: Sequence[DocumentHistory] | None) -> list[str]:
    """The gold articles that hold what was missing; all of them where that is not known."""
    holding = [
        history.id
        for history in histories or ()
        if any(not missing_in((fact,), [version.words]) for fact in missing for version in history.versions)
    ]
    return holding or list(case.gold)


def _ranks(documents: Sequence[str], ranking: Ranking) -> str:
    return ", ".join(f"{document} comes {ranking.documents.index(document) + 1}." for document in documents)
