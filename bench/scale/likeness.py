"""How like real vectors the generated ones are.

The real vectors are cut in half. From one half, as many vectors are generated as the other half has; then real questions
look for their neighbours in both, and rows of each look for their own. What is near must be as near, the local dimension
the same, and an HNSW index must find as much of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import psycopg

from bench.scale.seeds import Seeds
from bench.scale.vectors import Indices, intrinsic_dimension, nearest, neighbours_of, perturbed
from deploy.postgres import DATABASE, EmbeddedPostgres
from retrieval.embedding import Vector
from retrieval.sql import named_queries

QUERIES = named_queries("bench.scale.sql", "likeness.sql")
EF_SEARCH = (20, 40, 100)
K = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Distances and recalls in one set of vectors."""

    #: Mean cosine of a row to its nearest and tenth nearest other.
    nearest_cosine: float
    tenth_cosine: float
    intrinsic_dimension: float
    #: The same of a question.
    question_nearest_cosine: float
    question_tenth_cosine: float
    question_intrinsic_dimension: float
    #: Recall@10 of an HNSW index for the questions, by ef_search.
    recall: Mapping[int, float]


def compare_with_real(home: Path, seeds: Seeds, say: Callable[[str], None] = print) -> dict[str, Likeness]:
    """Print and return the likeness of the real half and of the generated one."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(seeds.texts))
    half = len(order) // 2
    given, real = seeds.vectors[order[:half]], seeds.vectors[order[half : 2 * half]]
    generated = perturbed(given, neighbours_of(given), rng.integers(half, size=half), rng)
    postgres = EmbeddedPostgres(home / "postgres")
    postgres.start()
    try:
        url = psycopg.conninfo.make_conninfo(postgres.admin_url, dbname=DATABASE)
        found = {
            name: measured(url, vectors, seeds.question_vectors)
            for name, vectors in {"real": real, "generated": generated}.items()
        }
    finally:
        postgres.stop()
    for name, likeness in found.items():
        say(f"{name:10} " + "  ".join(f"{key}: {value}" for key, value in asdict(likeness).items()))
    return found


def measured(url: str, vectors: Vector, questions: Vector) -> Likeness:
    """Distances within the vectors and from questions to them, and what an index finds."""
    _, own = nearest(vectors, vectors, K + 11)
    own = own[:, 1:]
    gold, asked = nearest(questions, vectors, K + 10)
    return Likeness(
        nearest_cosine=_mean(own[:, 0]),
        tenth_cosine=_mean(own[:, K - 1]),
        intrinsic_dimension=round(intrinsic_dimension(own), 1),
        question_nearest_cosine=_mean(asked[:, 0]),
        question_tenth_cosine=_mean(asked[:, K - 1]),
        question_intrinsic_dimension=round(intrinsic_dimension(asked), 1),
        recall=_recalls(url, vectors, questions, gold[:, :K]),
    )


def _recalls(url: str, vectors: Vector, questions: Vector, gold: Indices) -> dict[int, float]:
    with psycopg.connect(url) as conn:
        conn.execute(QUERIES["table"])
        with conn.cursor().copy(QUERIES["copy"]) as copy:
            for row, vector in enumerate(vectors):
                copy.write_row((row, _text(vector)))
        conn.execute(QUERIES["index"])
        recalls = {}
        for ef_search in EF_SEARCH:
            conn.execute(QUERIES["search_list"], {"ef_search": str(ef_search)})
            shares = []
            for question, wanted in zip(questions, gold, strict=True):
                rows = conn.execute(QUERIES["nearest"], {"vector": _text(question), "k": K}).fetchall()
                shares.append(len({int(row[0]) for row in rows} & set(wanted.tolist())) / K)
            recalls[ef_search] = round(fmean(shares), 3)
    return recalls


def _text(vector: Vector) -> str:
    return "[" + ",".join(f"{value:.6g}" for value in vector.tolist()) + "]"


def _mean(values: Vector) -> float:
    return round(float(values.mean()), 3)
