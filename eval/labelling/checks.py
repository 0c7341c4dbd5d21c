"""Every check that a label can rest on: its name, what it says when it holds, and its version.

The letters are those of the published rules (docs/evaluation.md). A check that does not apply to a turn is
not made; one that applies and cannot be decided is None, and the two are never the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eval.labelling.labels import Check


@dataclass(frozen=True, slots=True)
class Kind:
    """What a check says, for people, and its version: raise it when the check decides otherwise."""

    says: str
    letter: str = ""
    version: int = 1


#: What is shown of a check; the whole answer stands beside it.
_DETAIL_CHARACTERS: Final = 600

KINDS: Final[dict[str, Kind]] = {
    "ran": Kind("the question was answered without an error of the machinery"),
    "answerable": Kind("the help centre is meant to answer this question"),
    "in_scope": Kind("the question is one for the help centre and for whoever asks"),
    "must_refuse": Kind("the question must be refused"),
    "must_escalate": Kind("a person must get the question"),
    "status_right": Kind("it was answered, abstained from or passed on as it should be"),
    "by_rule": Kind("a rule beside the model passed it to a person"),
    "abstained": Kind("it said that it does not know", "B", version=2),
    "asked_back": Kind("it asked back"),
    "told": Kind("the customer was told every fact that was asked for", version=3),
    "side_told": Kind("the customer was told what a good answer adds too"),
    "facts_right": Kind("every fact that was asked for stands in what the model wrote", "F", version=2),
    "some_facts": Kind("at least one fact that was asked for stands in what the model wrote", version=2),
    "old_said": Kind("what the model wrote states a superseded value", "O", version=2),
    "given": Kind("the model was given documents"),
    "stored": Kind("the articles that hold the answer are in the corpus"),
    "readable": Kind("whoever asks may read the articles that hold the answer"),
    "known": Kind("some stored version of the articles states every fact asked for", "K0", version=2),
    "current": Kind("the version that was searched states every such fact and is in force", "K1", version=2),
    "live_now": Kind("the version that is live now states every such fact", version=2),
    "in_force": Kind("the dates of the articles cover the day of the question"),
    "old_live": Kind("the corpus states a superseded value in place of the current one", version=2),
    "found": Kind("the articles with the missing facts were found", "R", version=2),
    "findable": Kind("the articles with the missing facts are among the first thirty hits", version=2),
    "fact_found": Kind("a hit holds the words with the missing facts", version=2),
    "in_context": Kind("every fact that was asked for stood in the prompt", "C", version=3),
    "enough": Kind("more knowledge would not have made it right", version=2),
    "shown": Kind("the prompt held at least one passage"),
    "old_in_context": Kind("the prompt held a superseded value"),
    "complete": Kind("the model finished what it wrote", "not W"),
    "valid": Kind("the model's first draft fits the schema as it came", "V"),
    "repaired": Kind("a second draft took the place of the first"),
    "supported": Kind("every claim of what the model wrote stands in the passages", "S", version=2),
    "draft_supported": Kind("every claim of the first draft stood in the passages"),
    "cited": Kind("citations are there, and each quote stands in its passage", "Q"),
    "tone_kept": Kind("the tone rules are kept", "T"),
    "refused": Kind("what must be refused was refused", "P"),
    "handed_over": Kind("what a person must get went to a person", "P"),
    "no_promise": Kind("nothing is promised or said to be done that no article promises", "P", version=2),
    "no_personal_data": Kind("no personal data that nobody had given", "P", version=2),
    "nothing_internal": Kind("nothing that only staff may know", "P", version=3),
    "right_with_gold": Kind("the same question is answered right from the gold documents"),
    "right_with_other_index": Kind("the same question is answered right with another index version"),
    "right_with_other_model": Kind("the same question is answered right by another model version"),
    "right_as_of": Kind("the same question is answered right as of an earlier snapshot or another day"),
    "right_as_of_live": Kind("the same question is answered right as of the snapshot that is live"),
}


def check(name: str, value: bool | None, detail: str, *, checker: str = "") -> Check:
    """A check of a known kind. `checker` names what outside this package decided."""
    version = f"{name}-{KINDS[name].version}"
    return Check(
        name=name,
        value=value,
        detail=detail[:_DETAIL_CHARACTERS],
        version=f"{version}+{checker}" if checker else version,
    )
