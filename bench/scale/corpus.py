"""A generated corpus of any size: tenants by Zipf, documents of neighbouring chunks, sentences of real ones.

A chunk takes its vector near a real one, keeps most sentences of that real chunk and takes the others from the chunk's
neighbours, so that words and vector speak of the same thing. A last line of made-up names (by Zipf, too) lets the
vocabulary grow with the corpus, which resampled sentences alone would not. Tenants all speak of the same things: the
hard case for a filter, since a question's nearest vectors are mostly somebody else's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.scale.seeds import Seeds
from bench.scale.vectors import neighbours_of, perturbed
from retrieval.embedding import Vector
from retrieval.lexing import K1, B, lex, term_id

#: Tenants publish in turns, so that the rows of each lie in many places.
WAVES = 20
CHUNKS_PER_DOCUMENT = 5
#: Share of a chunk's sentences that come from elsewhere.
BORROWED = 0.3
NAMES_PER_CHUNK = 3
#: Exponent of the tenants' sizes, and the smallest share: 32 % to 0.05 % with 200 tenants.
TENANT_EXPONENT = 1.3
SMALLEST_SHARE = 0.0005
LANGUAGES = ("en", "de", "fr")
PRODUCTS = tuple(f"product-{letter}" for letter in "abcdefghij")

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\s*\n\s*")
_SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnprtvz" for vowel in "aou")

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is generated; equal shapes of equal seeds are equal corpora."""

    chunks: int
    tenants: int = 200
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Sentence:
    """A real sentence with the lexemes that our lexer finds in it."""

    text: str
    #: Positions in the vocabulary, with repeats.
    lexemes: Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedChunk:
    """A chunk of a generated document."""

    text: str
    vector: Vector
    #: Distinct positions in the vocabulary, ascending, and how often each occurs.
    lexemes: Ids
    counts: Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedDocument:
    """A document of one tenant; its text is its chunks, an empty line between them."""

    id: str
    title: str
    #: Everybody's, or of `staff` alone.
    internal: bool
    language: str
    product: str
    year: int
    chunks: tuple[GeneratedChunk, ...]


class Corpus:
    """All documents of a shape, made as they are asked for."""

    def __init__(self, seeds: Seeds, shape: Shape) -> None:
        self.seeds = seeds
        self.shape = shape
        self.sizes = tenant_sizes(shape)
        self._neighbours = neighbours_of(seeds.vectors)
        names = _names(max(1_000, shape.chunks // 3))
        split = [[part for part in _SENTENCE_END.split(each.text) if part] for each in seeds.texts]
        lexed = [[lex(sentence) for sentence in sentences] for sentences in split]
        titles = [lex(each.title) for each in seeds.texts]
        words = {word for sentences in lexed for sentence in sentences for word in sentence}
        words.update(word for title in titles for word in title)
        words.update(names)
        #: Lexemes in the order of their bytes, which is that of a tsvector.
        self.vocabulary: tuple[bytes, ...] = tuple(sorted(word.encode() for word in words))
        place = {word.decode(): index for index, word in enumerate(self.vocabulary)}
        self.terms: Ids = np.array([term_id(word.decode()) for word in self.vocabulary], dtype=np.int64)
        self._sentences = [
            [
                Sentence(text, _places(place, lexemes))
                for text, lexemes in zip(sentences, of_text, strict=True)
            ]
            for sentences, of_text in zip(split, lexed, strict=True)
        ]
        self._titles = [_places(place, title) for title in titles]
        self._names = names
        self._name_places = np.array([place[name] for name in names], dtype=np.int64)
        popularity = 1.0 / np.arange(1, len(names) + 1)
        self._popularity = np.cumsum(popularity / popularity.sum())

    def documents(self) -> Iterator[tuple[int, list[GeneratedDocument]]]:
        """Tenant (its place by size) and some of its documents, wave by wave."""
        rng = np.random.default_rng(self.shape.seed)
        serial = 0
        for wave in range(WAVES):
            for tenant, size in enumerate(self.sizes):
                count = size * (wave + 1) // WAVES - size * wave // WAVES
                for start in range(0, count, 5_000):
                    batch = self._batch(min(5_000, count - start), serial, rng)
                    serial += len(batch)
                    yield tenant, batch

    def _batch(self, count: int, serial: int, rng: np.random.Generator) -> list[GeneratedDocument]:
        lengths = _lengths(count, rng)
        mains = rng.integers(len(self.seeds.texts), size=len(lengths))
        of_document = np.repeat(np.arange(len(lengths)), lengths)
        rows = mains[of_document]
        first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        # A document stays with one subject: its later chunks are made from neighbours of the first.
        later = np.ones(count, dtype=bool)
        later[first] = False
        near = self._neighbours[rows, rng.integers(self._neighbours.shape[1], size=count)]
        rows = np.where(later, near, rows)
        vectors = perturbed(self.seeds.vectors, self._neighbours, rows, rng)
        lenders = self._neighbours[rows, rng.integers(self._neighbours.shape[1], size=count)]
        names = np.searchsorted(self._popularity, rng.random((count, NAMES_PER_CHUNK)))
        chunks = [
            self._chunk(
                rows[index], lenders[index], names[index], mains[of_document[index]], vectors[index], rng
            )
            for index in range(count)
        ]
        draws = rng.random((len(lengths), 4))
        return [
            GeneratedDocument(
                id=f"doc-{serial + index}",
                title=self.seeds.texts[mains[index]].title or "Untitled",
                internal=bool(draws[index, 0] < 0.15),
                language=LANGUAGES[int(np.searchsorted((0.85, 0.95, 1.0), draws[index, 1]))],
                product=PRODUCTS[int(len(PRODUCTS) * draws[index, 2] ** 2)],
                year=2015 + int(12 * draws[index, 3]),
                chunks=tuple(chunks[start : start + length]),
            )
            for index, (start, length) in enumerate(zip(first, lengths, strict=True))
        ]

    def _chunk(
        self, row: int, lender: int, names: Ids, title: int, vector: Vector, rng: np.random.Generator
    ) -> GeneratedChunk:
        own, others = self._sentences[row], self._sentences[lender]
        sentences = [
            others[int(rng.integers(len(others)))] if draw < BORROWED else sentence
            for sentence, draw in zip(own, rng.random(len(own)), strict=True)
        ]
        line = " and ".join(self._names[name] for name in names) + "."
        lexemes, counts = np.unique(
            np.concatenate(
                [self._titles[title], *(each.lexemes for each in sentences), self._name_places[names]]
            ),
            return_counts=True,
        )
        text = "\n".join([*(sentence.text for sentence in sentences), line])
        return GeneratedChunk(text=text, vector=vector, lexemes=lexemes, counts=counts)


def tenant_name(place: int) -> str:
    """The name of a tenant by its place in size."""
    return f"tenant-{place:03}"


def tenant_sizes(shape: Shape) -> list[int]:
    """Chunks of each tenant, largest first."""
    shares = np.arange(1, shape.tenants + 1) ** -TENANT_EXPONENT
    shares = np.maximum(shares / shares.sum(), SMALLEST_SHARE)
    shares /= shares.sum()
    sizes = np.maximum(np.floor(shares * shape.chunks).astype(int), 1)
    sizes[0] += shape.chunks - sizes.sum()
    return [int(size) for size in sizes]


def bm25_of(counts: Ids, *, avgdl: float) -> NDArray[np.float32]:
    """What `bm25_weights` gives, for all lexemes of a chunk at once, by how often each occurs in it."""
    norm = K1 * (1 - B + B * float(counts.sum()) / avgdl)
    found: NDArray[np.float32] = (counts * (K1 + 1) / (counts + norm)).astype(np.float32)
    return found


def _places(place: dict[str, int], lexemes: Sequence[str]) -> Ids:
    return np.array([place[lexeme] for lexeme in lexemes], dtype=np.int64)


def _lengths(count: int, rng: np.random.Generator) -> list[int]:
    """Chunks per document, `count` in all."""
    lengths: list[int] = []
    left = count
    while left:
        length = min(left, int(rng.integers(1, 2 * CHUNKS_PER_DOCUMENT)))
        lengths.append(length)
        left -= length
    return lengths


def _names(count: int) -> list[str]:
    """Made-up words that no stemmer shortens, each once."""
    names = []
    for number in range(count):
        letters, rest = "q", number
        while rest or len(letters) < 5:
            rest, syllable = divmod(rest, len(_SYLLABLES))
            letters += _SYLLABLES[syllable]
        names.append(letters)
    return names
