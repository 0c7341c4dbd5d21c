"""Days 6 and 7: whether a tuning set is justified, what to choose, and by which metrics it is rolled out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import orjson

from eval.advice.advice import Advice, advise
from eval.advice.command import JSON_FILE, PAGE_FILE
from eval.advice.deciding import Verdict
from eval.advice.eligibility import LEAST_ROWS, Eligibility, Standing
from eval.advice.evidence import Logs
from eval.advice.page import advice_page
from eval.advice.team import Team
from eval.arms import ArmKind
from eval.pilot.comparing_arms import arm_log
from eval.pilot.guide import DayResult
from eval.pilot.measuring import Measured
from eval.pilot.not_fixed import rows_failing, turn_of
from eval.pilot.reports import DayReport
from eval.pilot.rollout import Guardrail, guardrails
from eval.pilot.state import PilotFolder, PilotState
from eval.report import Table

CANDIDATES = "tuning-candidates.jsonl"
METRICS = "rollout-metrics.json"


def pilot_advice(measured: Measured, state: PilotState, team: Team) -> Advice:
    """The advice on the pilot's arms.

    Of the index versions of day 4 only the chosen one takes part: the ladder has one improved rung.
    """
    chosen = state.days[4].outputs["chosen"]
    arms = tuple(arm for arm in measured.logs.arms if arm.kind is not ArmKind.RAG_PLUS or arm.name == chosen)
    logs: Logs = replace(measured.logs, arms=arms)
    return advise(logs, team, measured.draws)


def judge_tuning(measured: Measured, folder: PilotFolder, state: PilotState, team: Team) -> DayResult:
    """Each behaviour with every condition that training it has, and the turns to make rows of."""
    advice = pilot_advice(measured, state, team)
    arm = advice.diagnosed.arm if advice.diagnosed else ""
    eligible = [each for each in advice.eligibility if each.standing is Standing.ELIGIBLE]
    rows = rows_failing(arm_log(measured, arm), [each.behaviour for each in eligible]) if arm else []
    folder.write(
        CANDIDATES,
        b"".join(
            orjson.dumps(
                {
                    **turn_of(measured, row.case_id, arm),
                    "label": row.label,
                    "sub": row.sub,
                    "wanted_answer": "",
                }
            )
            + b"\n"
            for row in rows
        ),
    )
    notes = [f"{each.behaviour}: {each.advice}." for each in advice.eligibility]
    if eligible:
        notes.append(
            f"Write the wanted answer of each line of {CANDIDATES}, leave out questions of gates and "
            f"holdouts, and collect at least {LEAST_ROWS} such rows before training."
        )
    return DayResult(
        outputs={
            "arm": arm,
            "eligible": [each.behaviour for each in eligible],
            "candidates": len(rows),
            "trainable_team": team.can_tune,
        },
        report=DayReport(
            sentences=(_tuning_sentence(advice, eligible, len(rows), team),),
            tables=tuple(_conditions(each) for each in advice.eligibility),
            notes=tuple(notes),
            thin=_thin(advice),
            files=(CANDIDATES,) if rows else (),
        ),
    )


def choose(measured: Measured, folder: PilotFolder, state: PilotState, team: Team) -> DayResult:
    """The advice, and the metrics with thresholds by which both rails are watched while it is rolled out."""
    advice = pilot_advice(measured, state, team)
    plain = advice.as_json()
    folder.write(JSON_FILE, orjson.dumps(plain, option=orjson.OPT_INDENT_2) + b"\n")
    folder.write(PAGE_FILE, advice_page(plain).encode())
    arm = advice.diagnosed.arm if advice.diagnosed else ""
    rails = guardrails(measured, arm, team) if arm else ()
    folder.write(
        METRICS, orjson.dumps([each.as_json() for each in rails], option=orjson.OPT_INDENT_2) + b"\n"
    )
    return DayResult(
        outputs={"verdict": advice.verdict, "arm": arm, "metrics": len(rails)},
        report=DayReport(
            sentences=(_verdict_sentence(advice),),
            tables=tuple(_guardrail_table(rail, rails) for rail in ("knowledge", "model", "both")),
            notes=(
                *(
                    f"Not to be rolled out as it is: {each.what} ({each.measured_text})."
                    for each in rails
                    if each.unfit
                ),
                *(f"{step.title} ({step.when}; {step.owner}): {step.why}." for step in advice.order),
                *(
                    f"It would be {change.verdict.replace('_', ' ')} if {change.condition}."
                    for change in advice.changes
                ),
            ),
            thin=_thin(advice),
            files=(PAGE_FILE, JSON_FILE, METRICS),
        ),
    )


def _verdict_sentence(advice: Advice) -> str:
    said = advice.sentence
    return said if said.startswith(advice.title) else f"{advice.title}. {said}"


def _tuning_sentence(advice: Advice, eligible: Sequence[Eligibility], rows: int, team: Team) -> str:
    if advice.diagnosed is None:
        return "Nothing can be said of tuning: no arm was answered."
    if not advice.eligibility:
        return f"No behaviour fails in {advice.diagnosed.arm}: there is nothing to tune."
    if not eligible:
        return (
            f"A tuning set is not justified: none of {len(advice.eligibility)} failing behaviours survives "
            "everything that is cheaper, or too few questions say so."
        )
    names = ", ".join(each.behaviour for each in eligible)
    owner = "" if team.can_tune else " The team file names nobody who runs model versions, so it has to wait."
    return f"A tuning set is justified for {names}: {rows} turns are candidates.{owner}"


def _conditions(each: Eligibility) -> Table:
    met = {True: "yes", False: "no", None: "cannot be told"}
    return Table(
        title=f"{each.behaviour}: {each.standing.replace('_', ' ')}",
        header=("condition", "met", "evidence", "else"),
        rows=tuple(
            (condition.name, met[condition.met], condition.evidence, condition.otherwise or "-")
            for condition in each.conditions
        ),
    )


def _guardrail_table(rail: str, rails: Iterable[Guardrail]) -> Table:
    title = {"both": "Metrics of both rails together"}.get(rail, f"Metrics of the {rail} rail")
    return Table(
        title=title,
        header=("what", "telemetry", "threshold", "measured here", "why this threshold"),
        rows=tuple(
            (each.what, each.telemetry, each.threshold_text, each.measured_text, each.reason)
            for each in rails
            if each.rail == rail
        ),
    )


def _thin(advice: Advice) -> tuple[str, ...]:
    if advice.verdict is not Verdict.NOT_ENOUGH:
        return ()
    return tuple(need.what for need in advice.needs) or (advice.sentence,)
