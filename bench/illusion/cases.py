"""The cases: what each looks like, what most teams would do, what the advice says, and which questions it asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from eval.advice.deciding import Verdict


class Ground(StrEnum):
    """Where a case is played."""

    DEMO = "demo"
    BANK = "bank_support"
    #: Answers of real vLLM that were recorded; nothing is asked again.
    RECORDED = "recorded"


class Ask(StrEnum):
    """Which of the ground's questions."""

    #: As they come: some are answered wrong whatever is done.
    ANY = "any"
    #: Those that are answered right without the fault, so that the fault is the only cause.
    SOUND = "sound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What answers: an index version over a world of articles, and a model."""

    index: str = "start"
    model: str = "sound"
    #: Name of a world; `sound` has every article.
    world: str = "sound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """Something that is done about it, and what answers then."""

    title: str
    then: Setting
    #: The articles that are published first, by name; none for no publish.
    publish: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IllusionCase:
    """A case, played as: run, label, advise, mend wrongly and rightly, run again, compare."""

    name: str
    title: str
    ground: Ground
    verdict: Verdict
    looks_like: str
    live: Setting
    wrong: Fix
    right: Fix
    #: The headline metric that both fixes are judged by.
    metric: str
    ask: Ask = Ask.SOUND
    #: Questions at most, spread over topics.
    limit: int
    #: Models under other prompts that are asked beside the live one.
    prompts: tuple[str, ...] = ()
    #: What the team says that it has tried (team file).
    tried: Mapping[str, bool] = field(default_factory=lambda: {"constrained_decoding": True})
    #: Whether the gold articles are given as well, beside the live assistant.
    oracle: bool = True
    #: A fix on the way whose result is shown too.
    halfway: Fix | None = None
    #: Whether the right fix can be shown with so few questions.
    shows_gain: bool = True


_BAD_INDEX = "finely-cut"

CASES: tuple[IllusionCase, ...] = (
    IllusionCase(
        name="retrieval",
        title="Retrieval, which looks like a weak model",
        ground=Ground.DEMO,
        ask=Ask.ANY,
        limit=80,
        verdict=Verdict.IMPROVED_RAG,
        looks_like="the assistant says again and again that the help centre does not know: the model is too timid",
        live=Setting(index=_BAD_INDEX),
        wrong=Fix(title="a bolder model", then=Setting(index=_BAD_INDEX, model="bold")),
        right=Fix(title="an index version of larger chunks", then=Setting(index="start")),
        metric="answer_right",
    ),
    IllusionCase(
        name="bank",
        title="Retrieval on bank_support, which looks like a model that knows no banking",
        ground=Ground.BANK,
        ask=Ask.ANY,
        limit=98,
        verdict=Verdict.IMPROVED_RAG,
        looks_like="fees and limits come out as 'not in our help centre': the model does not understand banking",
        live=Setting(index="vectors-alone"),
        wrong=Fix(title="a bolder model", then=Setting(index="vectors-alone", model="bold")),
        right=Fix(title="an index version of vectors and words", then=Setting(index="start")),
        metric="answer_right",
    ),
    IllusionCase(
        name="documents",
        title="Missing articles, which look like bad search",
        ground=Ground.DEMO,
        limit=60,
        oracle=False,
        verdict=Verdict.IMPROVED_RAG,
        looks_like="a quarter of the questions finds nothing useful: the search is bad",
        live=Setting(world="gaps"),
        wrong=Fix(title="chunks of half the size", then=Setting(world="gaps", index="half-sized")),
        right=Fix(title="the missing articles written", then=Setting(world="gaps"), publish="sound"),
        metric="answer_right",
    ),
    IllusionCase(
        name="tuning",
        title="Tone, which looks like a matter of the next prompt or the next index",
        ground=Ground.DEMO,
        limit=105,
        verdict=Verdict.FINE_TUNE,
        looks_like="customers complain about the answers, and three prompts later they still do: search better",
        live=Setting(model="gushing"),
        prompts=("gushing-strong", "gushing-ruled"),
        wrong=Fix(title="another index version", then=Setting(model="gushing", index="half-sized")),
        right=Fix(title="a model trained on reviewed answers", then=Setting(model="sound")),
        metric="would_be_corrected",
    ),
    IllusionCase(
        name="hybrid",
        title="Both, of which each alone is half a fix",
        ground=Ground.DEMO,
        limit=105,
        verdict=Verdict.HYBRID,
        looks_like="answers are missing or in the wrong tone: train on good ones and both are solved",
        live=Setting(index=_BAD_INDEX, model="gushing"),
        prompts=("gushing-strong", "gushing-ruled"),
        wrong=Fix(title="training alone", then=Setting(index=_BAD_INDEX, model="sound")),
        halfway=Fix(title="retrieval, then measured again", then=Setting(model="gushing")),
        right=Fix(title="retrieval, then training", then=Setting(model="sound")),
        metric="would_be_corrected",
    ),
    IllusionCase(
        name="prompt",
        title="Neither: a format that decoding mends",
        ground=Ground.DEMO,
        limit=60,
        oracle=False,
        verdict=Verdict.PROMPT,
        looks_like="two drafts of five cannot be parsed: give the model better context, or train it on JSON",
        live=Setting(model="fencing"),
        tried={"constrained_decoding": False},
        wrong=Fix(title="another index version", then=Setting(model="fencing", index="half-sized")),
        right=Fix(title="decoding against the schema", then=Setting(model="fencing-held")),
        metric="format_valid",
    ),
    IllusionCase(
        name="reasoning",
        title="Neither: half of the answer, with all of it in the prompt",
        ground=Ground.DEMO,
        limit=105,
        verdict=Verdict.STRONGER_MODEL,
        looks_like="answers leave out what the article says: it was not found, so search better",
        live=Setting(model="halting"),
        wrong=Fix(title="another index version", then=Setting(model="halting", index="half-sized")),
        right=Fix(title="a stronger model", then=Setting(model="sound")),
        metric="answer_right",
    ),
    IllusionCase(
        name="too-few",
        title="Not enough evidence: twelve questions of the hybrid case",
        ground=Ground.DEMO,
        limit=12,
        verdict=Verdict.NOT_ENOUGH,
        looks_like="a dozen examples show what is wrong: start the training",
        live=Setting(index=_BAD_INDEX, model="gushing"),
        wrong=Fix(title="training alone", then=Setting(index=_BAD_INDEX, model="sound")),
        right=Fix(title="retrieval, then training", then=Setting(model="sound")),
        metric="would_be_corrected",
        shows_gain=False,
    ),
)
