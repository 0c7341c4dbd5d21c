"""Judge files and small runs to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.arms import Arm, Pin
from eval.cases import Case, CaseSet
from eval.judging.judge import Judge, load_judge
from eval.observations import Evidence, Observation
from eval.record import RunData, RunFolder, RunRecord
from serving.prompting import Passage

ARMS = (Arm(name="rag", pin=Pin(knowledge="k-1@3", model="m-1")), Arm(name="tuned", pin=Pin(model="m-2")))
PLUS = Evidence(document_id="plus", passage=Passage(n=1, title="Plus", text="Plus is $9.", start=0, end=11))


def judge_file(folder: Path, text: str = 'name = "supported"\nprompt = "supported"\n') -> Path:
    """A judge's file."""
    path = folder / "judge.toml"
    path.write_text(text)
    return path


def judge(folder: Path, *, url: str = "http://judge.invalid/v1", model: str = "m-judge") -> Judge:
    """The judge of the packaged question of support."""
    return load_judge(judge_file(folder), url=url, model=model)


def small_run(path: Path, answers: Mapping[str, Sequence[str]]) -> RunData:
    """A run's folder with an answer to each question in each arm, in `turn-ARM-NUMBER`."""
    n = max(len(texts) for texts in answers.values())
    cases = CaseSet.of(
        "made up", [Case(id=f"q{i:03d}", topic=f"t{i % 7}", split="dev", text=f"plus, {i}") for i in range(n)]
    )
    arms = tuple(arm for arm in ARMS if arm.name in answers)
    record = RunRecord(
        id=path.name,
        gateway_url="http://gateway.invalid",
        question_set=cases.name,
        question_set_sha256=cases.sha256,
        selection={},
        requested_arms=arms,
        arms=arms,
        knowledge=("k-1@3",),
    )
    folder = RunFolder(path)
    folder.create(record, cases)
    for arm, texts in answers.items():
        for i, text in enumerate(texts):
            folder.add_observation(
                Observation(
                    case_id=f"q{i:03d}",
                    arm=arm,
                    turn_id=f"turn-{arm}-{i}",
                    status="answered",
                    answer=text,
                    packed=(PLUS,),
                )
            )
    return folder.read()
