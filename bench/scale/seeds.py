"""Real chunks and questions with their MiniLM vectors: what generated corpora are made of.

Embedded once and kept. Chunks are cut by our own chunker from the shared data sets whose pages are long enough to
be cut (the FAQ rows of 15 words are left out), or from the demo's articles where those sets are absent.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.chunking import StructureChunker
from retrieval.embedding import Embedder, Vector
from retrieval.sources import read_source

#: Data sets by preference: the last one gives what is still missing.
DATA_SETS = ("bank_support", "mtrag_support", "aws_docs")
#: Fewer words say nothing that a sentence of another page could not say.
SHORTEST_WORDS = 40


@dataclass(frozen=True, slots=True)
class SeedText:
    """A real chunk: the title of its page, and its own text."""

    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """Chunks and questions with their unit vectors, in the same order."""

    texts: tuple[SeedText, ...]
    vectors: Vector
    questions: tuple[str, ...]
    question_vectors: Vector
    #: Id of the embedder that made both.
    embedder: str

    def part(self, rows: Sequence[int]) -> Seeds:
        """Some of the chunks, with all questions."""
        return Seeds(
            texts=tuple(self.texts[row] for row in rows),
            vectors=self.vectors[list(rows)],
            questions=self.questions,
            question_vectors=self.question_vectors,
            embedder=self.embedder,
        )


def load_seeds(
    home: Path, *, data: Path, demo: Path, embedder: Embedder, count: int, say: Callable[[str], None] = print
) -> Seeds:
    """The seeds of an earlier run with this embedder and count, or newly embedded ones (25 to 40 a second)."""
    folder = home / "seeds" / f"{embedder.id}-{count}"
    if not folder.exists():
        texts, questions = _real(data, demo, count)
        say(f"embedding {len(texts)} real chunks and {len(questions)} questions into {folder} (once)")
        vectors = asyncio.run(_embedded(embedder, [f"{each.title}\n{each.text}" for each in texts], say))
        question_vectors = asyncio.run(_embedded(embedder, questions, say))
        _write(folder, texts, vectors, questions, question_vectors)
    rows = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    return Seeds(
        texts=tuple(SeedText(*row) for row in rows["chunks"]),
        vectors=np.load(folder / "vectors.npy"),
        questions=tuple(rows["questions"]),
        question_vectors=np.load(folder / "questions.npy"),
        embedder=embedder.id,
    )


def _real(data: Path, demo: Path, count: int) -> tuple[list[SeedText], list[str]]:
    texts: list[SeedText] = []
    questions: list[str] = []
    for name in DATA_SETS:
        sources = sorted((data / name).glob("corpus.jsonl*"))
        if sources:
            texts += _chunks(sources[0])
            questions += _texts_of(data / name / "queries.jsonl")
    if not texts:
        texts = _chunks(demo / "articles")
        questions = [
            text for path in sorted((demo / "questions").glob("*.jsonl")) for text in _texts_of(path)
        ]
    known: dict[str, SeedText] = {}
    for each in texts:
        known.setdefault(each.text, each)
    unique = list(known.values())
    if len(unique) > count:
        chosen = np.random.default_rng(0).choice(len(unique), count, replace=False)
        unique = [unique[index] for index in sorted(chosen)]
    return unique, list(dict.fromkeys(questions))


def _chunks(source: Path) -> list[SeedText]:
    chunker = StructureChunker()
    return [
        SeedText(parsed.document.title, chunk.text)
        for parsed in read_source(source).documents
        for chunk in chunker.chunk(parsed.document.title, parsed.document.text, parsed.blocks)
        if len(chunk.text.split()) >= SHORTEST_WORDS
    ]


def _texts_of(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


async def _embedded(embedder: Embedder, texts: Sequence[str], say: Callable[[str], None]) -> Vector:
    parts, step = [], 512
    for start in range(0, len(texts), step):
        parts.append(await embedder.embed_documents(texts[start : start + step]))
        say(f"  {min(start + step, len(texts))} of {len(texts)}")
    return np.concatenate(parts)


def _write(
    folder: Path,
    texts: Sequence[SeedText],
    vectors: Vector,
    questions: Sequence[str],
    question_vectors: Vector,
) -> None:
    """Moved into place in one step: a killed run leaves nothing half-made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "seeds"
        made.mkdir()
        rows = {"chunks": [(each.title, each.text) for each in texts], "questions": list(questions)}
        (made / "texts.json").write_text(json.dumps(rows), encoding="utf-8")
        np.save(made / "vectors.npy", vectors)
        np.save(made / "questions.npy", question_vectors)
        shutil.move(str(made), str(folder))
