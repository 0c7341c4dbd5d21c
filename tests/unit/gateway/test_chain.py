"""Who answers when the assigned version does not: each cause at each step, and exactly one way out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import pytest

from gateway.access import ApiKey, Scope
from gateway.assembling import Assembler
from gateway.citations import CitationDesk
from gateway.drafting import Drafter
from gateway.events import Completed, Deadline, Delta
from gateway.generating import Generating
from gateway.handover import Match
from gateway.pacing import Pace
from gateway.rollouts.assignment import Arm, Assignment
from gateway.rollouts.live import LiveRails
from gateway.schemas.answers import AnswerBody
from gateway.standins import Chain
from gateway.turn import Pinned, Question, Surface, TurnDraft
from gateway.verifying import Verifier
from serving.circuit import CircuitLimits, Circuits
from serving.endpoint import Endpoint
from serving.errors import (
    EngineError,
    EngineRejectedError,
    EngineStreamError,
    EngineTimeoutError,
    NoEngineError,
    UnknownModelVersionError,
)
from serving.grounding import check_sentence
from serving.prompting import PromptTemplate
from serving.versions import SCHEMAS, ModelVersion, Pointer, RegisteredVersion, load_task_schema
from serving.wording import load_wording
from tests.fakes.chat import ScriptedChats
from tests.unit.gateway.test_citations import TEXT, Store, source

SCHEMA = load_task_schema(SCHEMAS / "support_answer.json")
WORDING = load_wording()
KEY = ApiKey(
    id=uuid4(),
    name="customer",
    tenant="acme",
    principals=("public",),
    scopes=frozenset({Scope.ASK}),
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
HIT = source(1).hit


def written(answer: str) -> str:
    """What a model writes for the support task."""
    return json.dumps(
        {
            "answer": answer,
            "citations": [1],
            "intent": "billing",
            "escalate": False,
            "escalation_reason": "none",
            "follow_up": "",
        }
    )


GOOD = written(TEXT)
BAD = written("Sync Plus costs $7 a month.")
BROKEN = EngineStreamError("the stream broke")
LATE = EngineTimeoutError("too late")
#: What a model does -> because, and the failure that is told.
CAUSES: dict[str, tuple[str | EngineError, str, str | None]] = {
    "error": (BROKEN, "error", "engine"),
    "deadline": (LATE, "deadline", "engine"),
    "invalid": (BAD, "invalid", "unsupported"),
}


def version(name: str, **changes: object) -> RegisteredVersion:
    """A version with a prompt of its own, served under its name."""
    made = ModelVersion(
        name=name,
        base_digest="b" * 64,
        adapter_digest=None,
        prompt=PromptTemplate(name=f"{name}_prompt", system=f"You are {name}."),
        task="support_answer",
        schema=SCHEMA,
    )
    return RegisteredVersion(
        version=replace(made, **changes),  # type: ignore[arg-type]
        served_name=name,
        manifest={},
        releasable=True,
        author="test",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


STABLE, PREVIOUS, BASE = version("stable"), version("previous"), version("base")


class Models:
    """The model rail: a pointer and versions."""

    def __init__(self, versions: Sequence[RegisteredVersion], **arms: object) -> None:
        self._versions = {each.id: each for each in versions}
        self._arms = arms

    async def pointer(self) -> Pointer:
        return Pointer(**{"stable": STABLE.id, "previous": PREVIOUS.id, "fallback": BASE.id, **self._arms})  # type: ignore[arg-type]

    async def version(self, version_id: str) -> RegisteredVersion:
        if version_id not in self._versions:
            raise UnknownModelVersionError(version_id)
        return self._versions[version_id]


class Engines:
    """Serves these names."""

    def __init__(self, *names: str) -> None:
        self._names = frozenset(names)

    async def ready(self, served_name: str | None = None) -> bool:
        return served_name is None or served_name in self._names

    def served(self) -> frozenset[str]:
        return self._names


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(kw_only=True)
class Bench:
    """The parts under test with what stands around them."""

    chats: ScriptedChats
    generating: Generating
    assembler: Assembler
    circuits: Circuits
    pace: Pace
    endpoint: Endpoint | None
    clock: Clock

    async def answer(
        self,
        *,
        stream: bool = False,
        pin: Pinned | None = None,
        arm: Arm = Arm.STABLE,
        assigned: RegisteredVersion = STABLE,
        seconds: float = 30.0,
        handover: Match | None = None,
    ) -> tuple[AnswerBody, TurnDraft, str]:
        """The answer, its turn, and the text that was shown."""
        question = Question(
            text="How much does Sync Plus cost a month?",
            key=KEY,
            conversation_id="c",
            stream=stream,
            pin=pin,
        )
        turn = TurnDraft(
            id=uuid4(),
            key=KEY,
            surface=Surface.ANSWERS,
            trace_id="t",
            snapshot=1,
            pin=pin,
            model=Assignment(arm=arm, version=assigned.id),
            handover=handover,
        )
        assert HIT is not None
        turn.hits = (HIT,)
        context = await self.assembler.assemble(question, assigned, turn.hits)
        shown, done = "", None
        events = self.generating.run(question, turn, Deadline(seconds), assigned, context, 0.0)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Delta):
                    shown += event.text
                else:
                    assert isinstance(event, Completed)
                    assert done is None, "one way out"
                    done = event.body
        assert done is not None
        assert done.answer == shown
        return done, turn, shown


def bench(
    *,
    endpoint: bool = True,
    tokens_an_hour: int = 10_000,
    served: Sequence[str] = ("stable", "previous", "base", "canary"),
    versions: Sequence[RegisteredVersion] = (STABLE, PREVIOUS, BASE),
    limits: CircuitLimits | None = None,
    arms: dict[str, object] | None = None,
    **scripts: Sequence[str | Exception | asyncio.Event],
) -> Bench:
    """Every model writes a good answer unless its script says something else."""
    clock = Clock()
    chats = ScriptedChats({**{name: [GOOD] for name in (*served, "outside")}, **scripts})
    models = Models(versions, **(arms or {}))
    live = LiveRails(models, models)  # type: ignore[arg-type]
    check = partial(check_sentence, fixed=WORDING.all())
    pace = Pace(clock=clock)
    drafter = Drafter(chat=chats, check_sentence=check, check_tone=lambda _text: ())
    outside = Endpoint(
        url="https://models.example/v1",
        model="outside",
        chat=chats,  # type: ignore[arg-type]
        tokens_an_hour=tokens_an_hour,
    )
    circuits = Circuits(limits, clock=clock)
    assembler = Assembler(count_tokens=lambda text: len(text.split()), history_messages=4)
    return Bench(
        chats=chats,
        assembler=assembler,
        circuits=circuits,
        pace=pace,
        endpoint=outside if endpoint else None,
        clock=clock,
        generating=Generating(
            live=live,
            chain=Chain(
                live=live,
                engines=Engines(*served),
                drafter=drafter,
                endpoint=outside if endpoint else None,
                endpoint_drafter=drafter if endpoint else None,
            ),
            circuits=circuits,
            assembler=assembler,
            verifier=Verifier(desk=CitationDesk(Store()), check_sentence=check),  # type: ignore[arg-type]
            wording=WORDING,
            first_token_timeout_s=12.0,
            pace=pace,
        ),
    )


CHAIN = (("assigned", "stable"), ("previous", "previous"), ("base", "base"), ("endpoint", "outside"))


async def test_the_assigned_version_answers_and_nobody_stands_in() -> None:
    here = bench()
    body, turn, _ = await here.answer()
    assert (body.status, body.fallback, body.degraded) == ("answered", None, [])
    assert body.versions.model == STABLE.id
    assert here.chats.asked() == ["stable"]
    assert turn.tried == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("left", [1, 2, 3, 4])
async def test_each_cause_leads_one_step_on(cause: str, left: int, stream: bool) -> None:
    does, because, failure = CAUSES[cause]
    here = bench(**{name: [does] for _, name in CHAIN[:left]})
    body, turn, _ = await here.answer(stream=stream)

    assert body.fallback is not None
    steps = [*(step for step, _ in CHAIN), "fixed"]
    assert body.fallback.step == steps[left]
    assert body.fallback.because == because
    assert [(tried.step, tried.because, tried.failure) for tried in body.fallback.tried] == [
        (step, because, failure) for step in steps[:left]
    ]
    assert body.status == "fallback"
    repairs = 1 if cause == "invalid" else 0  # once a turn, by the first whose draft does not hold
    assert here.chats.asked() == ["stable"] * (1 + repairs) + [name for _, name in CHAIN[1 : left + 1]]
    assert body.degraded == ([] if cause == "invalid" else ["generation"])
    if left < len(CHAIN):
        assert body.answer == TEXT
        assert [citation.document_id for citation in body.citations] == ["doc-1"]
        wrote = (STABLE, PREVIOUS, BASE)[left].id if left < 3 else "m-endpoint-"
        assert (body.versions.model or "").startswith(wrote)
        assert turn.ticket is None
    else:
        assert body.answer == WORDING.failed
        assert body.versions.model == STABLE.id
        assert turn.ticket == failure
    assert body.arms.model == "stable"


async def test_the_last_word_is_the_reason_for_a_person_not_the_last_error() -> None:
    """A draft that was refused is what a reader can judge, whatever broke after it."""
    here = bench(stable=[BAD], previous=[BROKEN], base=[BROKEN], outside=[BROKEN])
    body, turn, _ = await here.answer()
    assert body.fallback is not None
    assert (body.fallback.because, turn.ticket, body.degraded) == ("invalid", "unsupported", [])
    assert body.citations == []


async def test_what_no_passage_holds_is_said_to_be_uncited() -> None:
    here = bench(stable=[written("Yes, you can.")], endpoint=False)
    body, turn, _ = await here.answer()
    assert body.fallback is not None
    assert [draft["failure"] for draft in turn.drafts] == ["uncited", "uncited", None]
    assert body.fallback.tried[0].failure == "uncited"
    assert "No passage supports that answer" in here.chats.requests[1].messages[-1].content


async def test_a_reader_is_told_that_nothing_could_be_cited() -> None:
    """Such a draft has no failure of its own: only its verification finds it, and that is the reason."""
    nothing = [written("Yes, you can.")]
    here = bench(stable=nothing, previous=nothing, base=nothing, outside=nothing)
    body, turn, _ = await here.answer()
    assert body.fallback is not None
    assert {(tried.because, tried.failure) for tried in body.fallback.tried} == {("invalid", "uncited")}
    assert turn.ticket == "uncited"
    assert turn.row()["reasons"] == ["failed_verification"]


async def test_what_is_off_topic_is_an_abstention_and_not_an_answer_without_a_source() -> None:
    here = bench(stable=[written(WORDING.off_topic)])
    body, turn, _ = await here.answer()
    assert (body.status, body.answer, body.citations) == ("abstained", WORDING.off_topic, [])
    assert (body.fallback, turn.ticket) == (None, "abstained")


async def test_a_repair_that_holds_is_the_assigned_version_s_answer() -> None:
    here = bench(stable=[BAD, GOOD])
    body, turn, _ = await here.answer()
    assert (body.status, body.fallback) == ("answered", None)
    assert [draft["attempt"] for draft in turn.drafts] == ["first", "repair"]


async def test_the_one_repair_is_for_the_first_draft_that_does_not_hold() -> None:
    here = bench(stable=[BROKEN], previous=[BAD], base=[BAD], endpoint=False)
    await here.answer()
    assert here.chats.asked() == ["stable", "previous", "previous", "base"]


@pytest.mark.parametrize("assigned_fails", [False, True])
async def test_after_something_was_shown_only_the_fixed_wording_follows(assigned_fails: bool) -> None:
    half = written(f"{TEXT} It comes with 77 telephones.")
    here = bench(stable=[BROKEN] if assigned_fails else [half], previous=[half])
    body, _, shown = await here.answer(stream=True)
    assert shown.startswith(TEXT)
    assert shown.endswith(WORDING.failed)
    assert body.fallback is not None
    assert body.fallback.step == "fixed"
    assert here.chats.asked() == (["stable", "previous"] if assigned_fails else ["stable"])
    # Who wrote what is shown: true also where it was a stand-in.
    assert body.versions.model == (PREVIOUS if assigned_fails else STABLE).id


# ---- who stands in ----


async def test_a_pinned_version_stands_for_itself_alone() -> None:
    here = bench(stable=[BROKEN])
    body, _, _ = await here.answer(pin=Pinned(model=STABLE.id), arm=Arm.PINNED)
    assert here.chats.asked() == ["stable"]
    assert body.fallback is not None
    assert (body.fallback.step, body.fallback.because) == ("fixed", "error")


async def test_an_evaluation_never_leaves_the_house_and_moves_no_circuit() -> None:
    here = bench(stable=[BROKEN], previous=[BROKEN], base=[BROKEN], limits=CircuitLimits(errors_in_a_row=1))
    for _ in range(2):
        await here.answer(pin=Pinned(effective_on=datetime(2026, 1, 1, tzinfo=UTC).date()))
    assert here.chats.asked() == ["stable", "previous", "base"] * 2
    assert here.circuits.admits(STABLE.id)


async def test_a_canary_is_backed_by_the_stable_version() -> None:
    canary = version("canary")
    here = bench(canary=[BROKEN], versions=(STABLE, PREVIOUS, BASE, canary), arms={"canary": canary.id})
    body, _, _ = await here.answer(arm=Arm.CANARY, assigned=canary)
    assert here.chats.asked() == ["canary", "stable"]
    assert body.fallback is not None
    assert (body.fallback.step, body.arms.model, body.versions.model) == ("previous", "canary", STABLE.id)


@pytest.mark.parametrize(
    "previous",
    [
        version("previous", task="ticket_routing"),
        replace(PREVIOUS, releasable=False),
        version("previous", prompt=STABLE.version.prompt),  # the stable one under another name
    ],
    ids=["another task", "not releasable", "nothing else"],
)
async def test_a_previous_version_that_is_of_no_use_is_passed_over(previous: RegisteredVersion) -> None:
    here = bench(stable=[BROKEN], versions=(STABLE, previous, BASE), arms={"previous": previous.id})
    await here.answer()
    assert here.chats.asked() == ["stable", "base"]


async def test_a_version_that_was_taken_back_stands_in_for_nobody() -> None:
    here = bench(stable=[BROKEN], arms={"taken_back": True})
    await here.answer()
    assert here.chats.asked() == ["stable", "base"]


async def test_a_previous_version_that_nobody_serves_is_passed_over() -> None:
    here = bench(stable=[BROKEN], served=("stable", "base"))
    await here.answer()
    assert here.chats.asked() == ["stable", "base"]


async def test_without_an_endpoint_nothing_leaves() -> None:
    here = bench(stable=[BROKEN], previous=[BROKEN], base=[BROKEN], endpoint=False)
    body, _, _ = await here.answer()
    assert "outside" not in here.chats.asked()
    assert body.fallback is not None
    assert body.fallback.step == "fixed"


async def test_the_endpoint_is_asked_with_the_strong_prompt_and_without_who_asks() -> None:
    here = bench(stable=[BROKEN], previous=[BROKEN], base=[BROKEN])
    body, _, _ = await here.answer()
    sent = here.chats.requests[-1]
    assert sent.messages[0].content.startswith("You are base.")
    assert sent.cache_salt is None
    assert body.versions.prompt == "base_prompt"


async def test_the_endpoint_s_budget_is_kept() -> None:
    here = bench(stable=[BROKEN], previous=[BROKEN], base=[BROKEN], tokens_an_hour=220)
    first, _, _ = await here.answer()
    assert first.fallback is not None
    assert first.fallback.step == "endpoint"
    assert here.endpoint is not None
    with here.endpoint.set_aside(200):
        second, turn, _ = await here.answer()
    assert second.fallback is not None
    assert second.fallback.step == "fixed"
    assert second.fallback.tried[-1].because == "budget"
    assert here.chats.asked().count("outside") == 1
    # The turn shows the last prompt that was sent.
    assert turn.prompt[0].content.startswith("You are base.")


@pytest.mark.parametrize(
    ("does", "asked"),
    [(GOOD, 12), (BROKEN, 2), (EngineRejectedError("no", status=400), 12), (BAD, 2)],
    ids=["answers", "breaks off", "refuses", "stopped by a check"],
)
async def test_what_the_endpoint_did_not_use_is_given_back(does: str | EngineError, asked: int) -> None:
    here = bench(
        stable=[BROKEN], previous=[BROKEN], base=[BROKEN], outside=[does], tokens_an_hour=450,
        limits=CircuitLimits(errors_in_a_row=99, least=99, window=99),
    )  # fmt: skip
    for _ in range(12):
        await here.answer()
    assert here.chats.asked().count("outside") == asked


async def test_a_repair_at_the_endpoint_is_paid_for_too() -> None:
    drafts = [BAD, GOOD]
    for budget, step in ((450, "fixed"), (900, "endpoint")):
        here = bench(stable=[BROKEN], previous=[BROKEN], base=[BROKEN], outside=drafts, tokens_an_hour=budget)
        body, _, _ = await here.answer()
        assert body.fallback is not None
        assert body.fallback.step == step
        assert here.chats.asked().count("outside") == (1 if step == "fixed" else 2)
    assert body.fallback.tried[-1].step == "base"


async def test_questions_at_once_keep_to_the_endpoint_s_budget_together() -> None:
    held = asyncio.Event()
    here = bench(stable=[BROKEN], previous=[BROKEN], base=[BROKEN], outside=[held], tokens_an_hour=1000,
                 limits=CircuitLimits(errors_in_a_row=99, least=99, window=99))  # fmt: skip
    asking = [asyncio.create_task(here.answer()) for _ in range(40)]
    question = Question(
        text="How much does Sync Plus cost a month?", key=KEY, conversation_id="c", stream=False
    )
    context = await here.assembler.assemble(question, BASE, (HIT,))  # type: ignore[arg-type]
    most = context.tokens + BASE.version.decoding.max_tokens
    room = 1000 // most
    assert 1 < room < 40
    async with asyncio.timeout(10):
        while sum(task.done() for task in asking) < 40 - room:  # noqa: ASYNC110 (nothing says it)
            await asyncio.sleep(0)
    done = [task for task in asking if task.done()]
    waiting = [task for task in asking if not task.done()]
    assert here.chats.asked().count("outside") == len(waiting)
    reasons = {task.result()[0].fallback.tried[-1].because for task in done}  # type: ignore[union-attr]
    assert reasons == {"budget"}
    # Who leaves gives back nothing, because nobody knows what was written for him.
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    body, _, _ = await here.answer()
    assert body.fallback is not None
    assert body.fallback.tried[-1].because == "budget"


async def test_a_prompt_without_room_is_no_step() -> None:
    small = version("base", prompt_budget_tokens=1)
    here = bench(stable=[BROKEN], previous=[BROKEN], versions=(STABLE, PREVIOUS, small), endpoint=False,
                 arms={"fallback": small.id})  # fmt: skip
    body, _, _ = await here.answer()
    assert body.fallback is not None
    assert [tried.because for tried in body.fallback.tried] == ["error", "error", "budget"]


# ---- circuits ----


@pytest.mark.parametrize("step", [0, 1, 2, 3])
async def test_an_open_circuit_is_a_step_that_costs_nothing(step: int) -> None:
    failing = {name: [BROKEN] for _, name in CHAIN[: step + 1]}
    here = bench(limits=CircuitLimits(errors_in_a_row=2), **failing)
    for _ in range(2):
        await here.answer()
    asked = len(here.chats.asked())
    body, _, _ = await here.answer()
    assert body.fallback is not None
    assert [tried.because for tried in body.fallback.tried] == ["circuit"] * (step + 1)
    assert body.fallback.because == "circuit"
    assert here.chats.asked()[asked:] == [name for _, name in CHAIN[step + 1 : step + 2]]
    assert body.degraded == ["generation"]


async def test_a_circuit_closes_with_the_first_good_answer_and_opens_again_with_a_bad_one() -> None:
    here = bench(stable=[BROKEN], limits=CircuitLimits(errors_in_a_row=3, open_s=15))
    for _ in range(3):
        await here.answer()
    assert not here.circuits.admits(STABLE.id)

    here.clock.now += 15
    await here.answer()  # the trial fails
    assert here.chats.asked().count("stable") == 4
    here.clock.now += 15
    await here.answer()  # twice as long now
    assert here.chats.asked().count("stable") == 4

    here.clock.now += 15
    here.chats.tell("stable", GOOD)
    body, _, _ = await here.answer()
    assert (body.status, body.fallback) == ("answered", None)
    body, _, _ = await here.answer()
    assert body.fallback is None


async def test_bad_drafts_open_the_circuit_of_their_version_alone() -> None:
    here = bench(stable=[BAD], limits=CircuitLimits(window=4, least=2))
    for _ in range(4):
        await here.answer()
    body, _, _ = await here.answer()
    assert body.fallback is not None
    assert [(tried.step, tried.because) for tried in body.fallback.tried] == [("assigned", "circuit")]
    assert here.circuits.admits(PREVIOUS.id)


@pytest.mark.parametrize("error", [NoEngineError(), EngineRejectedError("too long", status=400)])
async def test_what_says_nothing_about_the_version_opens_nothing(error: EngineError) -> None:
    here = bench(stable=[error], limits=CircuitLimits(errors_in_a_row=1))
    for _ in range(3):
        await here.answer()
    assert here.chats.asked().count("stable") == 3


async def test_while_one_tries_the_others_do_not_wait() -> None:
    held = asyncio.Event()
    here = bench(stable=[BROKEN, held, GOOD], limits=CircuitLimits(errors_in_a_row=1, open_s=1))
    await here.answer()
    here.clock.now += 1
    trial = asyncio.create_task(here.answer())
    await here.chats.until_asked("stable", 2)
    others = await asyncio.gather(*(here.answer() for _ in range(20)))
    assert {body.fallback.tried[0].because for body, _, _ in others if body.fallback} == {"circuit"}
    assert here.chats.asked().count("stable") == 2
    held.set()
    await trial


# ---- leaving ----


@pytest.mark.parametrize("step", [0, 1, 2, 3])
async def test_who_leaves_ends_whichever_step_runs(step: int) -> None:
    failing: dict[str, list[str | Exception | asyncio.Event]] = {name: [BROKEN] for _, name in CHAIN[:step]}
    name = CHAIN[step][1]
    here = bench(**failing, **{name: [asyncio.Event()]})
    asking = asyncio.create_task(here.answer())
    await here.chats.until_asked(name)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert here.chats.aborted == 1
    assert here.chats.asked()[-1] == name


async def test_a_trial_that_was_left_is_the_next_one_s() -> None:
    here = bench(stable=[BROKEN, asyncio.Event(), GOOD], limits=CircuitLimits(errors_in_a_row=1, open_s=1))
    await here.answer()
    here.clock.now += 1
    trial = asyncio.create_task(here.answer())
    await here.chats.until_asked("stable", 2)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    body, _, _ = await here.answer()
    assert body.fallback is None


# ---- time ----


async def test_each_step_gets_a_share_of_what_is_left() -> None:
    here = bench(stable=[LATE], previous=[LATE], base=[LATE], outside=[LATE])
    await here.answer(seconds=30)
    given = [request.timeout_s for request in here.chats.requests]
    assert len(given) == 4
    assert 12 < given[0] < 15  # 4 of 9 parts, the others having what they need at least
    assert given[1] < given[2]
    assert given[3] <= 10  # the endpoint's own
    assert here.chats.requests[0].first_token_timeout_s == 12


async def test_a_pinned_version_has_all_the_time() -> None:
    """Its first token may come late as well: nobody could make use of the rest."""
    here = bench()
    here.pace.note(STABLE.id, 50.0)
    await here.answer(seconds=30, pin=Pinned(model=STABLE.id), arm=Arm.PINNED)
    [request] = here.chats.requests
    assert 29 < request.first_token_timeout_s <= request.timeout_s <= 30


async def test_no_time_is_kept_for_who_will_not_be_asked() -> None:
    here = bench(served=("stable", "base"), endpoint=False)
    await here.answer(seconds=30)
    assert here.chats.requests[0].timeout_s > 19.5  # 4 of 6 parts: the previous version is not at hand


async def test_an_evaluation_keeps_time_for_those_it_will_ask() -> None:
    """The circuits of the traffic are not its own."""
    pin = Pinned(effective_on=datetime(2026, 1, 1, tzinfo=UTC).date())
    here = bench(stable=[BROKEN], previous=[BROKEN], limits=CircuitLimits(errors_in_a_row=1), endpoint=False)
    await here.answer()  # opens both circuits
    here.chats.tell("stable", LATE)
    here.chats.requests.clear()
    body, _, _ = await here.answer(seconds=30, pin=pin)
    assert here.chats.asked() == ["stable", "previous", "base"]
    assert here.chats.requests[0].timeout_s < 18  # 4 of 7 parts
    assert body.fallback is not None


async def test_a_step_without_time_is_not_begun() -> None:
    here = bench()
    body, turn, _ = await here.answer(seconds=0.1)
    assert here.chats.requests == []
    assert body.fallback is not None
    assert {tried.because for tried in body.fallback.tried} == {"deadline"}
    assert turn.ticket == "deadline"


async def test_a_stand_in_that_was_never_so_fast_leaves_its_time_to_the_others() -> None:
    here = bench(stable=[GOOD], endpoint=False)
    here.pace.note(PREVIOUS.id, 20.0)
    here.pace.note(BASE.id, 3.0)
    here.chats.tell("stable", BROKEN)
    body, _, _ = await here.answer(seconds=10)
    assert body.fallback is not None
    assert [(tried.step, tried.because) for tried in body.fallback.tried] == [
        ("assigned", "error"),
        ("previous", "deadline"),
    ]
    assert body.fallback.step == "base"
