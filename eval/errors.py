"""Errors of the evaluation package. A bad answer is a score, never an error."""

from __future__ import annotations

from pathlib import Path


class EvalError(Exception):
    """Evaluation could not go on."""

    retryable = False


class CaseFileError(EvalError):
    """A question set cannot be used."""

    def __init__(self, *, file: Path, what: str, fix: str, line: int | None = None, field: str = "") -> None:
        place = f"{file}:{line}" if line is not None else str(file)
        super().__init__(f"{place}: {f'field {field!r}: ' if field else ''}{what}; {fix}")
        self.file, self.line, self.field = file, line, field


class ArmError(EvalError):
    """An arm is not written as name=knowledge:...,model:...,context:... or names nothing that exists."""


class RunError(EvalError):
    """A run folder cannot be used."""


class StorageError(EvalError):
    """The run could not be written: disk full or folder gone."""

    retryable = True


class GateRulesError(EvalError):
    """The rules of a gate, or the arms that it is asked about, cannot be used."""

    def __init__(self, *, file: Path, field: str, what: str) -> None:
        place = f"{file}: {field}" if field else str(file)
        super().__init__(f"{place}: {what}; docs/gates.md lists what a rules file may hold")


class JudgeFileError(EvalError):
    """The file of a judge cannot be used."""

    def __init__(self, *, file: Path, field: str, what: str) -> None:
        place = f"{file}: {field}" if field else str(file)
        super().__init__(f"{place}: {what}; docs/evaluation.md shows a judge file")


class JudgeRefusedError(EvalError):
    """The judge's endpoint refuses what cannot succeed by trying again: key, address or model."""


class JudgeUnavailableError(EvalError):
    """The judge's endpoint does not answer."""

    retryable = True


class GatewayRefusedError(EvalError):
    """The gateway refused a request that cannot succeed by trying again: key, scope or address."""


class GatewayUnavailableError(EvalError):
    """The gateway does not answer."""

    retryable = True


class AnswerFailedError(EvalError):
    """The gateway answered one question with an error; the run goes on without that answer."""


class TeamFileError(EvalError):
    """The team file of `twinrail advise` cannot be used."""


class NotEnoughQuestionsError(EvalError):
    """A question set is too small for what is asked of it."""


class TooManyQuestionsError(EvalError):
    """More questions than clustering holds in memory."""


class UnknownRegionError(EvalError):
    """A country whose phone numbers nobody knows."""


class PilotError(EvalError):
    """A day of the pilot cannot be done now: before its time, or on inputs that have changed."""


class LeakError(EvalError):
    """A question of an evaluation is one that the candidate was trained on."""


class PromptGridError(EvalError):
    """A file of prompts to compare cannot be used."""


class PromptSearchError(EvalError):
    """A search of prompts cannot be done as it is asked for, or is gone on with in another way."""
