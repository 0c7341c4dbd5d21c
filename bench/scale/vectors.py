"""Vectors that lie as real ones do: a real vector moved by differences between real neighbours.

Interpolating between neighbours would put everything on lines, and adding noise would fill all dimensions; both are
easy to tell from embeddings and give wrong recalls. Differences of neighbours have the directions in which real texts
differ. `SPREAD` and `MOVES` were fitted by `python -m bench.corpora --check`, which makes a second half of the real
vectors from the first and compares the two: distances to the nearest neighbours, the local intrinsic dimension, and
the recall of an HNSW index.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.embedding import Vector

#: How far a vector is moved, in typical distances between neighbours.
SPREAD = 0.8
#: Differences that are added up.
MOVES = 3
#: Real neighbours among which differences are taken.
NEIGHBOURS = 10

Indices = NDArray[np.int64]


def nearest(queries: Vector, vectors: Vector, k: int) -> tuple[Indices, Vector]:
    """Exact nearest neighbours by inner product: their rows and cosines, best first."""
    rows = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k), dtype=np.float32)
    for start in range(0, len(queries), 512):
        scores = queries[start : start + 512] @ vectors.T
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-found, axis=1)
        rows[start : start + 512] = np.take_along_axis(best, order, axis=1)
        cosines[start : start + 512] = np.take_along_axis(found, order, axis=1)
    return rows, cosines


def neighbours_of(vectors: Vector) -> Indices:
    """For each vector its nearest others, of shape (n, NEIGHBOURS)."""
    k = min(NEIGHBOURS, len(vectors) - 1)
    rows, _ = nearest(vectors, vectors, k + 1)
    others = np.empty((len(vectors), k), dtype=np.int64)
    for index, row in enumerate(rows):
        others[index] = row[row != index][:k]
    return others


def perturbed(
    vectors: Vector,
    neighbours: Indices,
    rows: Indices,
    rng: np.random.Generator,
    *,
    spread: float = SPREAD,
    moves: int = MOVES,
) -> Vector:
    """One new unit vector near each of the given rows."""
    made = vectors[rows].copy()
    for _ in range(moves):
        # Differences found in the neighbourhood itself: what is like this text varies like this.
        near = neighbours[rows, rng.integers(neighbours.shape[1], size=len(rows))]
        other = neighbours[near, rng.integers(neighbours.shape[1], size=len(rows))]
        factor = rng.standard_normal(len(rows)).astype(np.float32) * np.float32(spread / moves**0.5)
        made += factor[:, None] * (vectors[other] - vectors[near])
    unit: Vector = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def intrinsic_dimension(cosines: Vector) -> float:
    """The median local dimension by maximum likelihood (Levina and Bickel), from cosines to nearest neighbours."""
    distances = np.sqrt(np.clip(2 - 2 * cosines.astype(np.float64), 1e-9, None))
    ratios = np.log(distances[:, -1:] / distances[:, :-1])
    return float(np.median((cosines.shape[1] - 2) / ratios.sum(axis=1)))
