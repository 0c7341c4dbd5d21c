"""Generated corpora are what the real path would have written; how figures follow from measurements."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bench.retrieval_bulk import medians
from bench.scale.capacity import Measured, capacity_table, extrapolate
from bench.scale.comparing import Answers, asked_by, place_of_share, traffic
from bench.scale.corpus import Corpus, Shape, bm25_of, tenant_sizes
from bench.scale.database import GivenVectors
from bench.scale.peer import Peer, PeerError
from bench.scale.seeds import Seeds, SeedText
from bench.scale.vectors import intrinsic_dimension, nearest, neighbours_of, perturbed
from retrieval.lexing import bm25_weights, lex, term_id

WORDS = (
    "card", "limit", "refund", "branch", "transfer", "account", "fee", "statement", "alert", "login", "code",
)  # fmt: skip


def seeds(count: int = 40, dims: int = 16) -> Seeds:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((count + 6, dims)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = tuple(
        SeedText(f"Page {place}", " ".join(f"{' '.join(rng.choice(WORDS, 7))} b-{place}." for _ in range(6)))
        for place in range(count)
    )
    questions = tuple(f"What is the fee of plan {place}?" for place in range(6))
    return Seeds(
        texts=texts,
        vectors=vectors[:count],
        questions=questions,
        question_vectors=vectors[count:],
        embedder="e",
    )


def test_tenants_have_all_chunks_from_a_third_down_to_a_twentieth_of_a_percent() -> None:
    sizes = tenant_sizes(Shape(chunks=1_000_000))

    assert sum(sizes) == 1_000_000
    assert len(sizes) == 200
    assert 0.30 < sizes[0] / 1e6 < 0.36
    assert 0.0004 < sizes[-1] / 1e6 < 0.0006
    assert all(larger >= smaller for larger, smaller in pairwise(sizes))
    assert tenant_sizes(Shape(chunks=70, tenants=1)) == [70]


def test_corpus_has_as_many_chunks_as_it_says_and_is_the_same_each_time() -> None:
    shape = Shape(chunks=300, tenants=12)

    first, second = (list(Corpus(seeds(), shape).documents()) for _ in range(2))

    counted = np.zeros(12, dtype=int)
    for tenant, documents in first:
        counted[tenant] += sum(len(document.chunks) for document in documents)
    assert counted.tolist() == tenant_sizes(shape)
    ids = [document.id for _, documents in first for document in documents]
    assert len(set(ids)) == len(ids)
    texts = [
        [chunk.text for _, documents in run for document in documents for chunk in document.chunks]
        for run in (first, second)
    ]
    assert texts[0] == texts[1]


def test_stored_lexemes_are_those_of_the_text_but_for_pairs_across_sentences() -> None:
    corpus = Corpus(seeds(), Shape(chunks=200, tenants=3))
    shares = []
    for _, documents in corpus.documents():
        for document in documents:
            for chunk in document.chunks:
                stored = {corpus.vocabulary[place].decode() for place in chunk.lexemes}
                real = set(lex(f"{document.title}\n{chunk.text}"))
                assert stored <= real
                missing = real - stored
                assert all(" " in lexeme for lexeme in missing)
                shares.append(len(stored) / len(real))
    assert np.mean(shares) > 0.75


def test_vocabulary_stands_in_the_order_that_a_tsvector_has() -> None:
    vocabulary = Corpus(seeds(), Shape(chunks=50, tenants=1)).vocabulary

    assert list(vocabulary) == sorted(set(vocabulary))


def test_weights_of_a_row_are_those_of_the_lexer() -> None:
    tokens = ["card"] * 3 + ["fee"] * 2 + ["limit"]

    wanted = bm25_weights(tokens, avgdl=220.0)
    found = bm25_of(np.array([3, 2, 1]), avgdl=220.0)

    assert found.tolist() == pytest.approx([wanted[term_id(word)] for word in ("card", "fee", "limit")])


def test_vectors_are_near_their_seeds_and_no_copies() -> None:
    given = seeds().vectors
    near = perturbed(given, neighbours_of(given), np.arange(40), np.random.default_rng(1), spread=0.2)

    cosines = (near * given).sum(axis=1)

    assert np.linalg.norm(near, axis=1) == pytest.approx(np.ones(40), abs=1e-5)
    assert (cosines > 0.5).all()
    assert (cosines < 0.9999).all()


def test_nearest_is_exact_and_leaves_nobody_as_its_own_neighbour() -> None:
    given = seeds().vectors

    found, cosines = nearest(given[:3], given, 5)

    assert found[:, 0].tolist() == [0, 1, 2]
    assert (np.diff(cosines, axis=1) <= 0).all()
    assert all(place not in row for place, row in enumerate(neighbours_of(given)))


def test_intrinsic_dimension_tells_a_plane_from_a_space() -> None:
    rng = np.random.default_rng(3)

    def dimension(free: int) -> float:
        points = np.zeros((3_000, 32), dtype=np.float32)
        points[:, :free] = rng.standard_normal((3_000, free)) * 0.05
        points[:, 31] = 1.0
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        _, cosines = nearest(points[:300], points, 21)
        return intrinsic_dimension(cosines[:, 1:])

    assert 1.5 < dimension(2) < 2.6
    assert dimension(8) > 6


async def test_given_vectors_are_those_of_the_texts() -> None:
    given = seeds()
    embedder = GivenVectors("e", given.questions, given.question_vectors)

    assert (await embedder.embed_query(given.questions[2]) == given.question_vectors[2]).all()
    assert (await embedder.embed_documents(given.questions) == given.question_vectors).all()


def test_questions_come_from_the_tenants_asked_for() -> None:
    given = seeds()
    asked = asked_by(given, [4, 9], count=20)

    assert set(asked.tenants) == {4, 9}
    assert len(asked.questions) == len(asked.vectors) == 20
    for question, vector in zip(asked.questions, asked.vectors, strict=True):
        assert (vector == given.question_vectors[given.questions.index(question)]).all()


def test_traffic_follows_size_and_shares_name_a_tenant() -> None:
    sizes = [800, 150, 50]

    places = traffic(sizes, 2_000)

    assert places.count(0) > places.count(1) > places.count(2) > 0
    assert [place_of_share(sizes, share) for share in (0.9, 0.2, 0.001)] == [0, 1, 2]


def test_recall_counts_what_of_the_truth_came_back() -> None:
    answers = Answers(ids=[[1, 2, 3], [], [7]], ms=[1.0, 2.0, 9.0], seconds=0.5)

    assert answers.recall([[1, 2], [4, 5], [7, 8]]) == 0.5
    assert answers.rows == pytest.approx(4 / 3)
    assert answers.short(possible=2) == 2
    assert answers.per_second == 6.0
    assert (answers.p50_ms, answers.p95_ms) == (2.0, 9.0)


def test_capacity_grows_from_the_largest_that_was_measured() -> None:
    def measured(chunks: int, p95_ms: float, recall: float) -> Measured:
        return Measured(
            chunks=chunks,
            vector_index_bytes=chunks * 1_000,
            text_index_bytes=chunks * 500,
            rows_bytes=chunks * 2_500,
            all_bytes=chunks * 9_000,
            index_seconds=chunks / 1_000,
            p95_ms=p95_ms,
            recall_at_10=recall,
        )

    both = [measured(1_000_000, 30.0, 0.957), measured(250_000, 26.0, 0.981)]
    found = extrapolate(both, 4_000_000)

    assert found.vector_index_gb == pytest.approx(4.0)
    assert found.memory_gb == pytest.approx(16.0)
    assert found.index_minutes * 60 == pytest.approx(4_000 * np.log(4e6) / np.log(1e6))
    lines = capacity_table(both)
    assert [line.split(" | ")[-2:] for line in lines if "(measured)" in line] == [
        ["26 ms", "0.981 |"],
        ["30 ms", "0.957 |"],
    ]
    # Neither time nor recall of a search follows from smaller corpora.
    beyond = [line for line in lines if line.startswith("| 10,000,000 ")]
    assert [line.split(" | ")[-2:] for line in beyond] == [["not measured", "not measured |"]]


def peer_that_replies(tmp_path: Path, *replies: str) -> Peer:
    program = f"for reply in {list(replies)!r}:\n    input()\n    print(reply, flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return Peer(process, tmp_path)


def test_peer_that_fails_is_an_error_with_its_words(tmp_path: Path) -> None:
    peer = peer_that_replies(tmp_path, '{"hnsw_s": 1.5}', '{"error": "no such table"}')
    with peer:
        assert peer.index() == {"hnsw_s": 1.5}
        with pytest.raises(PeerError, match="create: no such table"):
            peer.create()
        with pytest.raises(PeerError, match="ended at 'create'"):
            peer.create()


def test_a_figure_of_the_bulk_bench_is_the_run_with_the_median_time() -> None:
    runs = [
        {"bulk": {"per_second": rate, "seconds": seconds}}
        for rate, seconds in ((900.0, 1), (100.0, 9), (500.0, 2))
    ]

    assert medians(runs) == {
        "bulk": {"per_second": 500.0, "seconds": 2, "per_second_of_runs": [900.0, 100.0, 500.0]}
    }
