"""The team file: who runs the assistant, what they pay, how much traffic there is. Nothing is guessed."""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval.advice.rates import EngineRates
from eval.errors import PromptSearchError, TeamFileError
from eval.prompts.tried import SearchedPrompts, searched_prompts
from serving.pricing import TokenPrices


class TeamSize(StrEnum):
    """How many hands there are; what they can keep running differs more than what they can build."""

    SOLO = "solo"
    STARTUP = "startup"
    LARGE = "large"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Knowledge(_Part):
    """How much there is to know and how fast it changes."""

    documents: int | None = Field(None, ge=0)
    documents_changed_a_week: float | None = Field(None, ge=0)
    #: Hours within which a change has to be in the answers.
    freshness_hours: float | None = Field(None, gt=0)
    #: Whether the documents are internal, so that no public model can know them.
    private: bool | None = None
    tokens_a_document: float | None = Field(None, gt=0)
    #: Minutes of a person for each changed document; 0 where the sync does it all.
    minutes_a_change: float | None = Field(None, ge=0)
    storage_gb: float | None = Field(None, ge=0)


class Wages(_Part):
    """What an hour of work costs, all in."""

    agent_hour: float | None = Field(None, ge=0)
    engineer_hour: float | None = Field(None, ge=0)
    minutes_a_handoff: float | None = Field(None, ge=0)


class Prices(_Part):
    """Prices of what runs. Tokens have list prices, or follow from the engine's hour and measured rates.

    Rates are those of the file, at your traffic, else those of the run, one answer at a time.
    """

    prompt_per_million: float | None = Field(None, ge=0)
    cached_per_million: float | None = Field(None, ge=0)
    completion_per_million: float | None = Field(None, ge=0)
    engine_hour: float | None = Field(None, ge=0)
    prompt_tokens_a_s: float | None = Field(None, gt=0)
    completion_tokens_a_s: float | None = Field(None, gt=0)
    utilisation: float | None = Field(None, gt=0, le=1)
    #: The machine that embeds, searches and reranks, priced by the time that a search takes on it.
    retrieval_hour: float | None = Field(None, ge=0)
    retrieval_utilisation: float = Field(1.0, gt=0, le=1)
    embedding_per_million: float | None = Field(None, ge=0)
    storage_gb_month: float | None = Field(None, ge=0)
    training_hour: float | None = Field(None, ge=0)

    def of_tokens(self, measured: EngineRates | None = None) -> TokenPrices | None:
        """Prices of tokens; None where nothing tells them. Rates of the file come before those of the run."""
        if self.prompt_per_million is not None and self.completion_per_million is not None:
            cached = self.cached_per_million
            return TokenPrices(
                prompt=self.prompt_per_million,
                # A provider that names no price for cached tokens charges the full one.
                cached=self.prompt_per_million if cached is None else cached,
                completion=self.completion_per_million,
            )
        reading, writing = self.prompt_tokens_a_s, self.completion_tokens_a_s
        if measured is not None and reading is None and writing is None:
            reading, writing = measured.prompt_tokens_a_s, measured.completion_tokens_a_s
        if self.engine_hour is None or reading is None or writing is None or self.utilisation is None:
            return None
        return TokenPrices.of_machine(
            an_hour=self.engine_hour,
            prompt_tokens_a_s=reading,
            completion_tokens_a_s=writing,
            utilisation=self.utilisation,
        )


class Tuning(_Part):
    """What tuning would take of this team."""

    rows: int | None = Field(None, ge=1)
    minutes_a_row: float | None = Field(None, ge=0)
    training_hours: float | None = Field(None, ge=0)
    evaluation_hours: float | None = Field(None, ge=0)
    retrains_a_year: float | None = Field(None, ge=0)


class Tried(_Part):
    """Cheaper fixes that were tried already and are in the arms that the run measured."""

    #: Searches of the prompt: in the file their folders, as `twinrail eval prompts` left them.
    prompt_searches: tuple[SearchedPrompts, ...] = ()
    constrained_decoding: bool | None = None


class Team(_Part):
    """Everything about the team that the advice depends on."""

    team_size: TeamSize
    regulated: bool
    #: What customers get today. Without it the choice is made from scratch: from the first rung measured.
    live: Literal["prompt", "rag", "rag_plus"] | None = None
    #: Whether somebody owns model versions, their evaluation and roll-back. By default all but solo teams do.
    operates_models: bool | None = None
    answers_a_month: float | None = Field(None, gt=0)
    currency: str = "EUR"
    knowledge: Knowledge = Knowledge()
    wages: Wages = Wages()
    prices: Prices = Prices()
    tuning: Tuning = Tuning()
    tried: Tried = Tried()

    @property
    def can_tune(self) -> bool:
        """Whether a tuned model would have an owner here."""
        return self.team_size is not TeamSize.SOLO if self.operates_models is None else self.operates_models


def _with_searches(path: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """The file with what each search found in place of its folder: nobody writes by hand what was tried."""
    tried = raw.get("tried")
    folders = tried.get("prompt_searches") if isinstance(tried, dict) else None
    if not isinstance(tried, dict) or folders is None:
        return raw
    if not isinstance(folders, list) or not all(isinstance(each, str) for each in folders):
        raise TeamFileError(
            f"--team {path}: tried.prompt_searches: must be a list of folders of `twinrail eval prompts`"
        )
    try:
        found = [asdict(searched_prompts(path.parent / folder)) for folder in folders]
    except PromptSearchError as exc:
        raise TeamFileError(f"--team {path}: tried.prompt_searches: {exc}") from exc
    return {**raw, "tried": {**tried, "prompt_searches": found}}


def read_team(path: Path) -> Team:
    """The team file; an error names the field and what it takes."""
    try:
        return Team.model_validate(_with_searches(path, tomllib.loads(path.read_text(encoding="utf-8"))))
    except OSError as exc:
        raise TeamFileError(f"--team {path}: {exc.strerror}; name a team file (docs/advice.md)") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise TeamFileError(f"--team {path}: not TOML ({exc}); write it as docs/advice.md shows") from exc
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        fix = "remove it or correct its name" if unknown else "correct it in the team file"
        raise TeamFileError(f"--team {path}: {name}: {first['msg']}; {fix}") from exc
