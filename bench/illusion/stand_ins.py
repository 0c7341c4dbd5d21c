"""Models that are weak in a known way, in place of a real one: what each gets wrong, and on which questions.

All know the wanted answers and give them only where the passages of their prompt state every fact. On top of that
each has one weakness. Which questions it meets follows from their words, so that every run meets the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from bench.faults.stack import Answer, version_of
from bench.faults.writing import WRITINGS
from serving.prompting import PROMPTS, PromptTemplate, load_prompt
from serving.versions import ModelVersion
from tests.fakes.responder import Prompted, Reply, Responder, Writing, plainly

_TONES = ("regret", "apologise", "greet", "exclaim", "note")
_RULE = "Begin with the fact. Never greet, never apologise, never write an exclamation mark."


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A model version and what answers in its name."""

    says: str
    answer: Callable[[Responder], Answer]
    prompt: str = "short"
    constrained: bool = True

    def version(self, name: str) -> ModelVersion:
        """The version under that name."""
        prompt = replace(_PROMPTS[self.prompt](), name=name.replace("-", "_"))
        return version_of(name, prompt=prompt, constrained=self.constrained)


def _writing(write: Writing) -> Callable[[Responder], Answer]:
    return lambda responder: responder.writing(write)


def on_some(write: Writing, *, percent: int) -> Writing:
    """A way to write that only some questions meet."""

    def some(reply: Reply, prompted: Prompted) -> str:
        met = _place(prompted, 100) < percent
        return (write if met else plainly)(reply, prompted)

    return some


def _gush(reply: Reply, prompted: Prompted) -> str:
    if reply.escalation_reason == "not_in_help_centre":
        # A fixed wording that is no longer word for word would be another fault than tone.
        return reply.text()
    return WRITINGS[_TONES[_place(prompted, len(_TONES))]](reply, prompted)


def _place(prompted: Prompted, among: int) -> int:
    return crc32(prompted.key.question.encode()) % among


def _fencing(responder: Responder) -> Answer:
    """Wraps its JSON in a fence wherever the engine lets it: a grammar holds every model to the schema."""
    free, held = responder.writing(on_some(WRITINGS["fence"], percent=40)), responder

    def answer(body: Mapping[str, Any]) -> str:
        return (held if "response_format" in body else free)(body)

    return answer


def _short() -> PromptTemplate:
    return load_prompt(PROMPTS / "support_short.yaml")


_PROMPTS: Mapping[str, Callable[[], PromptTemplate]] = {
    "short": _short,
    "strong": lambda: load_prompt(PROMPTS / "support_strong.yaml"),
    "ruled": lambda: replace(_short(), system=f"{_short().system} {_RULE}"),
}
_GUSHING = _writing(on_some(_gush, percent=35))

MODELS: Mapping[str, StandIn] = {
    "sound": StandIn(says="right wherever its passages are", answer=_writing(plainly)),
    "bold": StandIn(
        says="the same, and makes up a price and a time rather than say that it found nothing",
        answer=_writing(WRITINGS["guess"]),
    ),
    "gushing": StandIn(says="greets, apologises or exclaims on a third of the questions", answer=_GUSHING),
    "gushing-strong": StandIn(
        says="the same under the strong prompt with two examples", answer=_GUSHING, prompt="strong"
    ),
    "gushing-ruled": StandIn(
        says="the same with the rules of tone in the prompt", answer=_GUSHING, prompt="ruled"
    ),
    "fencing": StandIn(
        says="wraps its JSON in a Markdown fence on two questions of five, if it may",
        answer=_fencing,
        constrained=False,
    ),
    "fencing-held": StandIn(says="the same model, decoded against the schema", answer=_fencing),
    "halting": StandIn(
        says="leaves out the last fact of those that an answer needs",
        answer=_writing(WRITINGS["half-answer"]),
    ),
}
