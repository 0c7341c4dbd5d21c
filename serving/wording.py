"""Fixed wordings: what the customer reads when the model's own words are not used. One YAML file per
deployment."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from serving.errors import WordingError

DEFAULT_WORDING = Path(__file__).parent / "prompts" / "wording.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The sentences of one help centre, verbatim."""

    #: Nothing in the help centre answers the question.
    not_in_help_centre: str
    #: Last sentence of an answer that a person will take over.
    passing_on: str
    #: The question is about something else.
    off_topic: str
    #: Abuse without a question.
    abusive: str
    #: The answer could not be written or did not pass its checks.
    failed: str
    #: Several articles come close; their titles follow as a list.
    clarify: str

    def all(self) -> tuple[str, ...]:
        """Every fixed sentence; none of them claims a fact."""
        return (
            self.not_in_help_centre,
            self.passing_on,
            self.off_topic,
            self.abusive,
            self.failed,
            self.clarify,
        )

    def declining(self) -> tuple[str, ...]:
        """Those that are a whole answer and say that there is none."""
        return (self.not_in_help_centre, self.off_topic, self.abusive)


def load_wording(path: Path = DEFAULT_WORDING) -> Wording:
    """Read a wording file; a field that it leaves out keeps the packaged text."""
    packaged = _read(DEFAULT_WORDING)
    given = packaged if path == DEFAULT_WORDING else _read(path)
    return Wording(**{**packaged, **given})


def _read(path: Path) -> dict[str, str]:
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise WordingError(f"{path}: no such wording file") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise WordingError(f"{path}: not YAML: {exc}") from exc
    known = [field.name for field in fields(Wording)]
    if not isinstance(raw, dict):
        raise WordingError(f"{path}: must be a mapping of {', '.join(known)}")
    for name, text in raw.items():
        if name not in known:
            raise WordingError(f"{path}: unknown field {name!r}; known: {', '.join(known)}")
        if not isinstance(text, str) or not text.strip():
            raise WordingError(f"{path}: {name}: must be a text")
    return {name: " ".join(text.split()) for name, text in raw.items()}
