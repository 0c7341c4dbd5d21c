"""Rerankers: a tiny model in onnxruntime, the score API over HTTP, and the blend of both orders."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers

from retrieval.crossencoder import CLS, SEP, Shape, encode_pair
from retrieval.errors import RerankError, RerankerUnavailableError
from retrieval.minilm import file_sha256
from retrieval.rerank_training import choose_blend
from retrieval.reranking import HttpReranker, OnnxReranker, blend
from tests.fakes.score_server import FakeScores

SHAPE = Shape(layers=(0,), window=12, question_tokens=6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose logit is how many tokens of the passage are read."""
    words = {word: number for number, word in enumerate(["?", "a", "b", "c", "d", "e", "f", "g"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "segments")
    ]
    nodes = [
        helper.make_node("Cast", ["segments"], ["read"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["read", "axis"], ["logit"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "reader",
        inputs,
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch"])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "model.onnx"))
    manifest = {
        "name": "reader",
        "layers": SHAPE.layers,
        "window": SHAPE.window,
        "question_tokens": SHAPE.question_tokens,
        "sha256": {name: file_sha256(tmp_path / name) for name in ("model.onnx", "tokenizer.json")},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return tmp_path


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


# ---- pairs ---------------------------------------------------------------------------------------


def test_a_pair_fits_the_window_and_a_long_question_leaves_room(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert encode_pair(tokenizer, "a b", "c", SHAPE) == ([CLS, 1, 2, SEP, 3, SEP], [0, 0, 0, 0, 1, 1])
    ids, segments = encode_pair(tokenizer, "a b c d e f g", "g f e d c b a", SHAPE)
    assert ids == [CLS, 1, 2, 3, 4, SEP, 7, 6, 5, 4, 3, SEP]
    assert len(ids) == len(segments) == SHAPE.window
    assert encode_pair(tokenizer, "", "", SHAPE) == ([CLS, SEP, SEP], [0, 0, 1])


# ---- on this machine -----------------------------------------------------------------------------


async def test_logits_come_in_the_order_of_the_passages(folder: Path) -> None:
    reranker = OnnxReranker(folder)
    # The passage's tokens and the mark at its end.
    assert await reranker.scores("a b", ["c", "c d e", ""]) == [2.0, 4.0, 1.0]
    assert await reranker.scores("a b", []) == []
    assert reranker.id == f"reader-{file_sha256(folder / 'model.onnx')[:8]}"


class Read(list[str]):
    """Passages that count how many were taken, and stop the reader after one."""

    taken = 0
    reader: asyncio.Task[list[float]] | None = None

    def __iter__(self) -> Iterator[str]:
        for passage in super().__iter__():
            self.taken += 1
            if self.taken == 2 and self.reader:
                self.reader.cancel()
            yield passage


async def test_a_cancelled_call_reads_no_further_passage(folder: Path) -> None:
    passages = Read(["c"] * 50)
    passages.reader = asyncio.create_task(OnnxReranker(folder).scores("a", passages))
    with pytest.raises(asyncio.CancelledError):
        await passages.reader
    assert passages.taken == 2


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_another_file_than_the_manifests_is_refused(folder: Path, file: str) -> None:
    if file == "model.onnx":
        (folder / file).write_bytes((folder / file).read_bytes() + b"\x00")
    else:
        (folder / file).write_text((folder / file).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(RerankError, match=f"{file} is not the one of its manifest"):
        OnnxReranker(folder)


def test_a_missing_model_names_the_folder_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(RerankError, match=r"no reranking model there; python -m retrieval\.rerank_training"):
        OnnxReranker(tmp_path)


# ---- over HTTP -----------------------------------------------------------------------------------


async def test_scores_over_http_are_logits_by_index(session: aiohttp.ClientSession) -> None:
    service = FakeScores()
    async with service.serving() as base_url:
        reranker = HttpReranker(session, base_url=base_url + "/", model="org/Rerank-M", api_key="key")
        assert await reranker.scores("red sky", ["blue sea", "a red sky", "red hen"]) == [0.0, 3.0, 1.0]
        assert await reranker.scores("red sky", []) == []
    assert service.asked == [
        {
            "model": "org/Rerank-M",
            "text_1": "red sky",
            "text_2": ["blue sea", "a red sky", "red hen"],
            "use_activation": False,
            "truncate_prompt_tokens": -1,
        }
    ]
    assert service.keys == ["Bearer key"]
    assert reranker.id.startswith("http-rerank-m-")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_service_is_worth_a_retry(session: aiohttp.ClientSession, status: int) -> None:
    async with FakeScores(status=status).serving() as base_url:
        with pytest.raises(RerankerUnavailableError, match=str(status)) as caught:
            await HttpReranker(session, base_url=base_url, model="m").scores("q", ["p"])
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, None, "HTTP 404: no such model"),
        (200, "hello", "not JSON"),
        (200, {"error": 1}, "no list `data`"),
        (200, {"data": [{"index": 0}]}, "no list `data`"),
        (200, {"data": [{"index": 0, "score": 1.0}]}, "scores of 1 passages, expected one each of 2"),
        (200, {"data": [{"index": 0, "score": 1}, {"index": 2, "score": 1}]}, "expected one each of 2"),
        (200, {"data": [{"index": 0, "score": 1}, {"index": 1, "score": "nan"}]}, "not finite"),
    ],
)
async def test_wrong_answers_are_explained(
    session: aiohttp.ClientSession, status: int, body: Any, message: str
) -> None:
    async with FakeScores(status=status, body=body).serving() as base_url:
        with pytest.raises(RerankError, match=message) as caught:
            await HttpReranker(session, base_url=base_url, model="m").scores("q", ["p", "r"])
    assert not caught.value.retryable


async def test_a_service_that_is_gone(session: aiohttp.ClientSession) -> None:
    with pytest.raises(RerankerUnavailableError, match="no answer"):
        await HttpReranker(session, base_url="http://127.0.0.1:1", model="m").scores("q", ["p"])


# ---- the blend -----------------------------------------------------------------------------------


def test_weight_zero_keeps_the_fused_order_and_one_leaves_it_to_the_logits() -> None:
    fused, logits = [0.9, 0.5, 0.1], [-3.0, 2.0, 1.0]
    assert blend(fused, logits, 0.0) == [1.0, 0.5, 0.0]
    assert np.argsort(blend(fused, logits, 1.0)).tolist() == [0, 2, 1]
    halves = blend(fused, logits, 0.5)
    assert halves[1] == pytest.approx(0.25 + 0.5 / (1 + np.exp(-2.0)))
    assert halves[1] > halves[0] > halves[2]


def test_blends_at_the_edges() -> None:
    assert blend([], [], 0.5) == []
    # All alike: only the logits tell them apart.
    assert blend([0.3, 0.3], [0.0, 1.0], 0.5)[1] > blend([0.3, 0.3], [0.0, 1.0], 0.5)[0]
    assert blend([0.1, 0.2], [-1e4, 1e4], 1.0) == [0.0, 1.0]
    with pytest.raises(ValueError, match="shorter"):
        blend([0.1, 0.2], [1.0], 0.5)


# ---- the shipped model ---------------------------------------------------------------------------

SHIPPED = Path(__file__).parents[3] / "deploy/demo/reranker"


async def test_the_shipped_model_is_whole_small_and_tells_an_answer_from_its_neighbours() -> None:
    reranker = OnnxReranker(SHIPPED)
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 25_000_000
    assert reranker.id.startswith("rerank-minilm4-")
    logits = await reranker.scores(
        "how long do I have to ask for my money back?",
        [
            "Refunds\nYou can ask for a refund within 14 days of a purchase.",
            "Prices\nSync Plus costs $9 a month, or $90 a year.",
            "Restore a file\nOpen the web app, choose the file and click Restore.",
        ],
    )
    assert logits[0] > max(logits[1:])


def test_the_shipped_model_says_what_made_it() -> None:
    manifest = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))
    record = json.loads((SHIPPED / "training.json").read_text(encoding="utf-8"))
    assert record["model_sha256"] == manifest["sha256"]["model.onnx"]
    assert manifest["layers"] == record["recipe"]["layers"]
    assert manifest["window"] == record["recipe"]["window"]
    assert record["recipe"]["dev_fold"] == 1
    assert manifest["weight"] == choose_blend(record["dev_ndcg10"])["weight"]
