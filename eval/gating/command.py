"""`twinrail eval gate`: may this version replace the stable one?"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from eval.connecting import open_client
from eval.errors import CaseFileError, EvalError, RunError
from eval.flips import Flips, count_flips
from eval.gating.gate_report import text_decision
from eval.gating.gates import Evidence, decide
from eval.gating.policies import policy_from_labels
from eval.gating.recording import GateReport, report_on
from eval.gating.rules import GateRules
from eval.gating.sides import Side, subject_of
from eval.gating.verdicts import EXIT_CODES, Decision, Subject
from eval.record import RunData, RunFolder
from eval.scorers import Scoring
from eval.scoring import scoring_of
from eval.sets.openings import Kind, Opening, OpeningLog, first_by_run, opens_holdout
from eval.settings import EvalSettings
from eval.summary import Outcomes, score_all

_EXAMPLE = """examples:
  twinrail eval gate runs/20260301-120000:rag_tuned --against rag_base
  twinrail eval gate runs/after:now --against runs/before:now --rules gate.toml
  twinrail eval gate runs/pr:candidate --against stable --no-record --json

exit codes: 0 pass, 1 refused, 2 bad usage, 3 the gateway could not record it, 4 not enough evidence"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of this command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "gate",
        help="may a candidate replace the stable version? records the verdict that promotion asks for",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("candidate", metavar="RUN:ARM", help="the candidate's answers")
    parser.add_argument(
        "--against",
        required=True,
        metavar="[RUN:]ARM",
        help="the stable version's answers, of the same run or of another one on the same questions",
    )
    parser.add_argument("--rules", type=Path, metavar="FILE", help="TOML file of what is asked [defaults]")
    parser.add_argument(
        "--regression", type=Path, metavar="FILE", help="ids of questions that must pass, one a line"
    )
    parser.add_argument(
        "--rail", choices=("knowledge", "model"), help="whose version it is, where both rails differ"
    )
    parser.add_argument("--no-record", action="store_true", help="write the files, tell no gateway")
    parser.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    parser.add_argument("--schema", type=Path, metavar="FILE", help="the task's JSON Schema [support_answer]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


async def run(
    options: argparse.Namespace,
    settings: EvalSettings,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    who: Callable[[], str] = getpass.getuser,
) -> int:
    """Decide, write it down, tell the gateway, and end with the verdict's exit code."""
    rules = GateRules.load(options.rules) if options.rules else GateRules()
    regression = options.regression or rules.regression
    wanted = read_regression(regression) if regression else ()
    folder, arm = _parse_side(options.candidate)
    stable_folder, stable_arm = _parse_side(options.against, default=folder)
    scoring = scoring_of(settings, options.schema)
    data = folder.read()
    stable_data = data if stable_folder.path == folder.path else stable_folder.read()
    if stable_data.record.question_set_sha256 != data.record.question_set_sha256:
        raise RunError(f"{options.candidate} and {options.against}: asked different questions; run one again")
    scored = _Scored.of(folder, data, scoring)
    candidate = scored.side(arm)
    stable = (scored if stable_data is data else _Scored.of(stable_folder, stable_data, scoring)).side(
        stable_arm
    )
    subject = subject_of(stable.arm, candidate.arm, rail=options.rail)
    look = Opening(
        kind=Kind.GATE,
        at=now().isoformat(timespec="seconds"),
        who=who(),
        run=data.record.id,
        versions=(subject.version,),
        questions=data.record.question_set,
        sha256=data.record.selection.get("frozen_sha256") or data.record.question_set_sha256,
    )
    decision = decide(
        Evidence(
            subject=subject,
            stable=stable,
            candidate=candidate,
            cases=data.cases,
            policy=policy_from_labels(folder.path, candidate),
            regression=wanted,
            notes=tuple(
                _notes(
                    subject,
                    data,
                    stable,
                    candidate,
                    _looks(look, data, settings.runs),
                )
            ),
        ),
        rules,
        min_questions=settings.min_questions,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    report = report_on(decision, rules, record=data.record, stable=stable, candidate=candidate)
    path = report.write(folder)
    plain = json.dumps({**report.content, "sha256": report.sha256}, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(plain if options.json else text_decision(decision))
    sys.stderr.write(f"twinrail eval gate: {path}\n")
    if not options.no_record:
        await _record(report, decision, options, settings)
    return EXIT_CODES[decision.verdict]


async def _record(
    report: GateReport, decision: Decision, options: argparse.Namespace, settings: EvalSettings
) -> None:
    """A verdict that nobody can ask for is no gate, so an unreachable gateway is an error of its own."""
    try:
        async with open_client(settings, url=options.url or settings.gateway_url, concurrency=1) as client:
            await report.record(client, decision)
    except EvalError as exc:
        said = f"verdict {decision.verdict} is not recorded: {exc}"
        raise type(exc)(f"{said}; run the same command again, or add --no-record") from exc
    sys.stderr.write(f"twinrail eval gate: recorded for {decision.subject.version} as {report.name}\n")


def read_regression(file: Path) -> tuple[str, ...]:
    """Ids of questions, one a line; `#` begins a comment."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise CaseFileError(file=file, what=str(exc), fix="name a file with a question's id a line") from exc
    ids = [line.partition("#")[0].strip() for line in lines]
    wanted = tuple(dict.fromkeys(filter(None, ids)))
    if not wanted:
        raise CaseFileError(file=file, what="holds no id", fix="add one, or leave the regression set out")
    return wanted


def _parse_side(text: str, *, default: RunFolder | None = None) -> tuple[RunFolder, str]:
    path, colon, arm = text.rpartition(":")
    if colon and path and arm:
        return RunFolder(Path(path)), arm
    if default is not None and not colon:
        return default, arm
    raise RunError(f"{text}: write RUN:ARM, for example runs/20260301-120000:rag_tuned")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """A run, scored once for all its arms."""

    folder: RunFolder
    data: RunData
    outcomes: Outcomes
    flips: Flips

    @classmethod
    def of(cls, folder: RunFolder, data: RunData, scoring: Scoring) -> Self:
        return cls(
            folder=folder, data=data, outcomes=score_all(data, scoring), flips=count_flips(data, scoring)
        )

    def side(self, arm: str) -> Side:
        """One arm of it."""
        arms = {each.name: each for each in self.data.record.arms}
        if arm not in arms:
            raise RunError(
                f"{self.folder.path}:{arm}: the run has no such arm; choose from {', '.join(arms)}"
            )
        return Side(
            run=str(self.folder.path),
            arm=arms[arm],
            answers={
                case_id: seen for (case_id, name), seen in self.data.observations.items() if name == arm
            },
            outcomes={case_id: found for (case_id, name), found in self.outcomes.items() if name == arm},
            flips=self.flips,
        )


def _looks(look: Opening, data: RunData, runs: Path) -> tuple[Opening, ...]:
    """Log a look at the holdout; earlier ones at the same version, each run once."""
    if not opens_holdout(case.split for case in data.cases):
        return ()
    before = OpeningLog(look.questions, runs=runs).add(look)
    return first_by_run(each for each in before if each.concerns(look.versions[0]))


def _notes(
    subject: Subject, data: RunData, stable: Side, candidate: Side, looks: Sequence[Opening]
) -> list[str]:
    notes = []
    if looks:
        notes.append(
            f"the holdout was opened before for {subject.version}: "
            f"{'; '.join(look.sentence() for look in looks)}; what was changed since is tuned on it"
        )
    unasked = len(data.cases) - len(stable.answers.keys() | candidate.answers.keys())
    if unasked:
        notes.append(f"{unasked} questions of the set were asked in neither arm")
    if min(stable.flips.repeats, candidate.flips.repeats) == 1:
        notes.append("flips: not measured, each question was asked once (`twinrail eval run --repeats 3`)")
    if stable.run != candidate.run:
        notes.append("the arms were asked in two runs, so their milliseconds do not compare")
    return notes
