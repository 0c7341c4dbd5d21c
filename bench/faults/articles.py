"""Faults of the documents: the demo's articles as files, with some taken away, changed or badly dated."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.cases import Case
from eval.matching import says

_FIELD = r"^{}: (.+)$"
_TAG = re.compile(r"<[^>]+>")
_SENTENCE = re.compile(r"(?<=[.!?]) +")
#: Forum threads that are added for each question.
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Articles:
    """File name -> text, front matter included."""

    files: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> Articles:
        """All of a folder."""
        return cls(
            {
                path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
                for path in sorted(folder.rglob("*"))
                if path.suffix in (".md", ".html")
            }
        )

    def write(self, folder: Path) -> Path:
        """As files again."""
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return folder

    def document(self, document_id: str) -> str:
        """The text of a document."""
        return self.files[self._file(document_id)]

    def predecessor(self, document_id: str) -> str | None:
        """The superseded article in whose place this one stands."""
        return _field(self.document(document_id), "supersedes") or None

    def superseded(self, documents: Iterable[str]) -> tuple[str, ...]:
        """Titles of the articles in whose places some stand."""
        before = [self.predecessor(document) for document in documents]
        return tuple(_field(self.document(each), "title") for each in before if each)

    def without(self, documents: Iterable[str]) -> Articles:
        """Some taken away."""
        gone = {self._file(document) for document in documents}
        return Articles({name: text for name, text in self.files.items() if name not in gone})

    def only(self, documents: Iterable[str]) -> Articles:
        """Some, and those that they supersede."""
        kept = {name for document in documents for name in self._with_predecessor(document)}
        return Articles({name: text for name, text in self.files.items() if name in kept})

    def changed(self, document_id: str, change: Callable[[str], str]) -> Articles:
        """One with another text."""
        name = self._file(document_id)
        return Articles({**self.files, name: change(self.files[name])})

    def internal_sentences(self) -> list[str]:
        """Whole sentences of what only staff may read."""
        return [
            sentence
            for text in self.files.values()
            if _field(text, "audience") == "internal"
            for line in text.split("---", 2)[2].splitlines()
            if line and line[0].isupper()
            for sentence in _SENTENCE.split(line.replace("**", ""))
            if 6 <= len(sentence.split()) <= 20 and sentence.endswith(".") and "[" not in sentence
        ]

    def _with_predecessor(self, document_id: str) -> list[str]:
        before = self.predecessor(document_id)
        return [self._file(each) for each in (document_id, before) if each]

    def _file(self, document_id: str) -> str:
        return next(name for name, text in self.files.items() if _field(text, "id") == document_id)


def _field(text: str, name: str) -> str:
    match = re.search(_FIELD.format(name), text.split("---", 2)[1], re.MULTILINE)
    return match[1].strip().strip('"') if match else ""


def _lineage(articles: Articles, case: Case) -> list[str]:
    """The gold articles of a case and those that they supersede."""
    return [each for gold in case.gold for each in (gold, articles.predecessor(gold)) if each is not None]


def _set_field(text: str, name: str, value: str | None) -> str:
    """Front matter with a field set, or without it."""
    head, body = text.split("---", 2)[1:]
    head = re.sub(_FIELD.format(name) + r"\n", "", head, flags=re.MULTILINE)
    if value is not None:
        head += f"{name}: {value}\n"
    return f"---{head}---{body}"


# ---- missing -------------------------------------------------------------------------------------


def remove(articles: Articles, cases: Sequence[Case]) -> Articles:
    """The gold articles were never written, nor any before them."""
    return articles.without({each for case in cases for each in _lineage(articles, case)})


def delete_facts(articles: Articles, cases: Sequence[Case]) -> Articles:
    """The articles are there without the sentences and table rows that state one fact of each case."""
    for case in cases:
        fact = min(case.vital_facts, key=lambda fact: _statements(articles, case, fact))
        for document in _lineage(articles, case):
            articles = articles.changed(document, lambda text, fact=fact: _unsaid(text, fact))  # type: ignore[misc]
    return articles


def _statements(articles: Articles, case: Case, fact: Sequence[str]) -> int:
    return sum(
        any(says(_shown(line), spelling) for spelling in fact)
        for gold in case.gold
        for line in articles.document(gold).splitlines()
    )


def _unsaid(text: str, fact: Sequence[str]) -> str:
    before, head, body = text.split("---", 2)
    kept = []
    for line in body.splitlines():
        sentences = [
            sentence
            for sentence in _SENTENCE.split(line)
            if not any(says(_shown(sentence), spelling) for spelling in fact)
        ]
        rest = " ".join(sentences)
        if not any(says(_shown(rest), spelling) for spelling in fact):
            kept.append(rest)
    return "---".join((before, head, "\n".join(kept)))


def _shown(line: str) -> str:
    return html.unescape(_TAG.sub(" ", line))


# ---- stale ---------------------------------------------------------------------------------------


def not_ingested(articles: Articles, cases: Sequence[Case]) -> Articles:
    """The superseded articles are live, and those that take their place were never taken in."""
    articles = _keep_outdated(articles, cases)
    return articles.without({gold for case in cases for gold in case.gold if articles.predecessor(gold)})


def not_synced(articles: Articles, cases: Sequence[Case]) -> Articles:
    """Under the current articles' ids stands what they said before."""
    for gold in sorted({gold for case in cases for gold in case.gold}):
        before = articles.predecessor(gold)
        if before is None:
            continue
        old = articles.document(before)
        articles = articles.without([before]).changed(
            gold,
            lambda _, old=old, gold=gold: _set_field(_set_field(old, "effective_to", None), "id", gold),  # type: ignore[misc]
        )
    return articles


def dated_ahead(articles: Articles, cases: Sequence[Case]) -> Articles:
    """The current articles are there, and begin to be true in another year."""
    articles = _keep_outdated(articles, cases)
    return _dated(articles, cases, "effective_from", "2031-01-01")


def expired(articles: Articles, cases: Sequence[Case]) -> Articles:
    """The current articles are there, and have ceased to be true by mistake."""
    return _dated(articles, cases, "effective_to", "2026-06-30")


def both_live(articles: Articles, cases: Sequence[Case]) -> Articles:
    """Nobody gave the superseded articles a last day."""
    return _keep_outdated(articles, cases)


def _keep_outdated(articles: Articles, cases: Sequence[Case]) -> Articles:
    for gold in sorted({gold for case in cases for gold in case.gold}):
        if before := articles.predecessor(gold):
            articles = articles.changed(before, lambda text: _set_field(text, "effective_to", None))
    return articles


def _dated(articles: Articles, cases: Sequence[Case], field: str, day: str) -> Articles:
    for gold in sorted({gold for case in cases for gold in case.gold}):
        articles = articles.changed(gold, lambda text: _set_field(text, field, day))
    return articles


# ---- not found -----------------------------------------------------------------------------------


def hidden(articles: Articles, cases: Sequence[Case]) -> Articles:
    """The gold articles may be read by staff only."""
    for gold in sorted({gold for case in cases for gold in case.gold}):
        articles = articles.changed(gold, lambda text: _set_field(text, "audience", "internal"))
    return articles


def flooded(articles: Articles, cases: Sequence[Case]) -> Articles:
    """Threads of a forum were taken in, which ask the same and answer nothing."""
    threads = {
        f"forum/{case.id}-{number}.md": (
            f"---\nid: forum-{case.id}-{number}\ntitle: {_quoted(case.text)}\naudience: public\n---\n"
            f"{case.text}\n\nSame here, and I would like to know as well. {case.text}\n"
        )
        for case in cases
        for number in range(_THREADS)
    }
    return Articles({**articles.files, **threads})


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace("\\", "").replace('"', "'")[:200] + '"'


def sound(articles: Articles, _cases: Sequence[Case]) -> Articles:
    """As they should be."""
    return articles


Edit = Callable[[Articles, Sequence[Case]], Articles]
#: World -> what is published, one after the other, of the sound articles and the cases that are asked there.
WORLDS: dict[str, tuple[Edit, ...]] = {
    "removed": (remove,),
    "taken-down": (sound, remove),
    "fact-deleted": (delete_facts,),
    "not-ingested": (not_ingested,),
    "not-synced": (not_synced,),
    "behind": (not_synced, sound),
    "put-back": (sound, not_synced),
    "dated-ahead": (dated_ahead,),
    "expired": (expired,),
    "both-live": (both_live,),
    "hidden": (hidden,),
    "flooded": (flooded,),
}
