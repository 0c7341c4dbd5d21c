"""The entailment model that ships, as it ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.checker import GroundingChecker
from serving.entailment import OnnxEntailment
from serving.grounding import check_sentence
from serving.prompting import Passage
from serving.settings import PACKAGED_ENTAILMENT, ServingSettings

TEXT = (
    "A yearly renewal is refunded in full within 30 days of the payment. Monthly renewals are not refunded. "
    "Refunds arrive on the same payment method. A courier drive is sent to the address of the account."
)
PASSAGES = (Passage(n=1, title="Refunds and renewals", text=TEXT, start=0, end=len(TEXT)),)
MOST_BYTES = 25_000_000


@pytest.fixture(scope="module")
def model() -> OnnxEntailment:
    return OnnxEntailment(PACKAGED_ENTAILMENT, deadline_s=60)


def test_what_the_passage_says_is_supported_and_what_it_does_not_say_is_not(model: OnnxEntailment) -> None:
    right = "You get your money back in full if you ask within 30 days of a yearly renewal."
    added = "Refunds arrive on the same payment method, and deleted folders stay in the bin for ever."
    plausible = "Refunds arrive on the same payment method, so that an invoice is written for every folder."
    assert check_sentence(right, PASSAGES, entailment=model).supported
    assert check_sentence(added, PASSAGES).supported  # words alone see nothing wrong
    assert not check_sentence(added, PASSAGES, entailment=model).supported
    # Not every added claim falls below the threshold, but each is believed less.
    scores = [check_sentence(text, PASSAGES, entailment=model).score for text in (right, plausible, added)]
    assert scores == sorted(scores, reverse=True)


def test_it_is_small_and_says_how_it_was_made() -> None:
    assert (PACKAGED_ENTAILMENT / "model.onnx").stat().st_size <= MOST_BYTES
    record = json.loads((PACKAGED_ENTAILMENT / "training.json").read_text(encoding="utf-8"))
    manifest = json.loads((PACKAGED_ENTAILMENT / "manifest.json").read_text(encoding="utf-8"))
    assert record["model_sha256"] == manifest["sha256"]["model.onnx"]
    assert {"rows_sha256", "recipe", "held", "packages"} <= record.keys()


def test_the_setting_names_it_or_a_folder(model: OnnxEntailment, tmp_path: Path) -> None:
    packaged = GroundingChecker.of(ServingSettings(entailment_model=Path("packaged")))
    assert packaged.entailment is not None
    assert packaged.entailment.id == model.id
    assert packaged.version.endswith(f"+{model.id}-{model.threshold:g}")
    for file in PACKAGED_ENTAILMENT.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert GroundingChecker.of(ServingSettings(entailment_model=tmp_path)).version == packaged.version
    assert GroundingChecker.of(ServingSettings()).entailment is None
