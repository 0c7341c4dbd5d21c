"""The fault suite in small: two faults for each label, on the real gateway and the real knowledge rail."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.eval_faults import json_of, run_suite, text_of, wrong_of
from bench.faults.seeds import MIXED, SEEDS
from bench.faults.suite import open_suite
from eval.labelling.labels import Label
from retrieval.embedding import OnnxEmbedder
from retrieval.minilm import prepare_minilm
from tests.prepared import MODELS

#: Answered right from the articles below.
CASES = (
    "backup-plans-prices-01",
    "backup-plans-prices-04",
    "backup-error-codes-08",
    "backup-error-codes-04",
    "backup-retention-archive-09",
)
ARTICLES = ("backup-plans-prices", "backup-error-codes", "backup-retention", "support-hours")
TWO_EACH = {
    "removed",
    "fact-deleted",
    "not-synced",
    "expired",
    "noise-vectors",
    "flooded",
    "change-number",
    "add-claim",
    "drop-field",
    "prose",
    "exclaim",
    "regret",
    "over-abstain",
    "half-answer",
    "promise-refund",
    "keep-from-people",
}
BOTH = {"change-number+exclaim"}


async def test_two_faults_of_each_label_get_their_label(database_url: str, tmp_path: Path) -> None:
    prepare_minilm(MODELS / "minilm")
    seeds = [seed for seed in (*SEEDS, *MIXED) if seed.name in TWO_EACH | BOTH]
    embedder = OnnxEmbedder(MODELS / "minilm")
    async with open_suite(database_url, tmp_path, embedder, documents=ARTICLES) as suite:
        found = await run_suite(suite, [suite.cases[case_id] for case_id in CASES], seeds, most=1)

    assert (found.passing, found.false_alarms) == (len(CASES), [])
    assert wrong_of(found) == []
    assert not found.harmless
    put_in = Counter(each.fault.seed.label for each in found.single)
    assert put_in == dict.fromkeys(set(Label) - {Label.UNDETERMINED}, 2)
    assert [each.names_both for each in found.mixed] == [True]
    assert (found.relabelled, found.changed) == (17, 0)
    assert json_of(found)["all"]["right"] == 16
    assert "16/16" in text_of(found)
