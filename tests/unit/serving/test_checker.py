"""One object that always checks in the same way, and says in which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from serving.checker import GroundingChecker
from serving.errors import EntailmentError, WordingError
from serving.grounding import THRESHOLD, Signs, check_sentence
from serving.prompting import Passage
from serving.settings import ServingSettings

TEXT = "Monthly renewals are not refunded. A courier drive is sent to the address of the account."
PASSAGES = (Passage(n=1, title="Help", text=TEXT, start=0, end=len(TEXT)),)


class Believer:
    """An entailment model that believes everything."""

    id = "believer-1"
    threshold = 0.25

    def probability(self, sentence: str, passages: Sequence[Passage], signs: Signs) -> float | None:
        return 0.9


def test_it_checks_as_the_function_does() -> None:
    checker = GroundingChecker.load()
    for sentence in ("Monthly renewals are not refunded.", "Cats sleep.", checker.fixed[0]):
        assert checker(sentence, PASSAGES) == check_sentence(sentence, PASSAGES, fixed=checker.fixed)
    assert checker("It costs $9.", PASSAGES, question="is it $9?").unsupported == ()
    assert GroundingChecker(entailment=Believer())("A drive comes by post.", PASSAGES).supported


def test_the_version_names_rules_thresholds_and_model() -> None:
    plain = GroundingChecker()
    assert plain.version.endswith(f"-{THRESHOLD}")
    assert not plain.is_slow
    asked = GroundingChecker(entailment=Believer())
    assert asked.version == f"{plain.version}+believer-1-0.25"
    assert asked.is_slow
    assert GroundingChecker(threshold=0.5).version != plain.version


def test_the_settings_of_the_rail_describe_it(tmp_path: Path) -> None:
    wording = tmp_path / "wording.yaml"
    wording.write_text("off_topic: Ask me about gardens.\n", encoding="utf-8")
    checker = GroundingChecker.of(ServingSettings(wording_file=wording, support_threshold=0.6))
    assert checker.threshold == 0.6
    assert checker("Ask me about gardens.", ()).is_fixed


def test_what_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(EntailmentError, match="no entailment model there"):
        GroundingChecker.load(model=tmp_path)
    with pytest.raises(WordingError, match="no such wording file"):
        GroundingChecker.load(wording=tmp_path / "none.yaml")
