"""Evaluation judges as the gateway that it measures, from the gateway's own settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.errors import RunError
from eval.scoring import NOT_SAID, scoring_of
from eval.settings import EvalSettings
from serving.checker import GroundingChecker
from serving.prompting import Passage
from serving.settings import ServingSettings

TEXT = "Monthly renewals are not refunded. A courier drive is sent to the address of the account."
PASSAGES = (Passage(n=1, title="Help", text=TEXT, start=0, end=len(TEXT)),)


def test_the_rails_settings_are_evaluations_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wording = tmp_path / "wording.yaml"
    wording.write_text("off_topic: Ask me about gardens.\n", encoding="utf-8")
    monkeypatch.setenv("SERVING_WORDING_FILE", str(wording))
    monkeypatch.setenv("SERVING_SUPPORT_THRESHOLD", "0.6")
    scoring = scoring_of(EvalSettings())
    rail = GroundingChecker.of(ServingSettings())
    assert scoring.version == rail.version
    assert scoring.wordings == rail.fixed
    monkeypatch.setenv("EVAL_SUPPORT_THRESHOLD", "0.7")
    assert scoring_of(EvalSettings()).version == GroundingChecker(threshold=0.7).version


def test_what_is_wrong_has_a_name_or_is_said_nowhere() -> None:
    unsupported = scoring_of(EvalSettings()).unsupported
    assert unsupported("Monthly renewals are not refunded.", PASSAGES, "") == ()
    (contrary,) = unsupported("Monthly renewals are refunded.", PASSAGES, "")
    assert contrary == "refunded: a passage says the contrary"
    assert unsupported("Deleted folders stay in the bin.", PASSAGES, "") == (NOT_SAID,)


def test_a_model_that_is_not_there_is_an_error_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no entailment model there"):
        scoring_of(EvalSettings(entailment_model=tmp_path))
