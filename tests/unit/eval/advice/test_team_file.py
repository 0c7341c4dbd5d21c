"""The demo's team file shows what a file may hold, and no field is read wrongly."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from eval.advice.team import Team, read_team
from eval.errors import TeamFileError

DEMO = Path(__file__).parents[4] / "deploy" / "demo" / "team.toml"
#: List prices, for which the demo has an engine by the hour; what the size tells; what is untried.
NOT_IN_THE_DEMO = {
    "operates_models",
    "prices.prompt_per_million",
    "prices.cached_per_million",
    "prices.completion_per_million",
    "prices.embedding_per_million",
    "tried.prompt_searches",
}


def fields(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= fields(inner, f"{name}.")
        else:
            found.add(prefix + name)
    return found


def test_the_demos_file_shows_every_field() -> None:
    read_team(DEMO)
    written = tomllib.loads(DEMO.read_text(encoding="utf-8"))
    flat = {name for name, value in written.items() if not isinstance(value, dict)}
    flat |= {
        f"{part}.{name}" for part, values in written.items() if isinstance(values, dict) for name in values
    }
    assert fields(Team) - flat == NOT_IN_THE_DEMO
    assert flat <= fields(Team)


def test_the_demos_engine_hour_is_a_price_of_tokens() -> None:
    prices = read_team(DEMO).prices.of_tokens()
    assert prices is not None
    assert prices.prompt == pytest.approx(0.12 / 3600 / 0.4 / 1128 * 1e6)


def test_cached_tokens_without_a_price_cost_the_full_one() -> None:
    team = Team.model_validate(
        {
            "team_size": "solo",
            "regulated": False,
            "prices": {"prompt_per_million": 2.0, "completion_per_million": 8.0},
        }
    )
    prices = team.prices.of_tokens()
    assert prices is not None
    assert prices.cached == 2.0


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('["nowhere"]', r"tried\.prompt_searches: .*nowhere/search\.json: No such file"),
        ("4", r"tried\.prompt_searches: must be a list of folders"),
        ("[{prompts = 9}]", r"tried\.prompt_searches: must be a list of folders"),
    ],
)
def test_what_was_searched_is_read_and_never_written_by_hand(
    tmp_path: Path, written: str, words: str
) -> None:
    path = tmp_path / "team.toml"
    path.write_text(f'team_size = "solo"\nregulated = false\n[tried]\nprompt_searches = {written}\n')
    with pytest.raises(TeamFileError, match=words):
        read_team(path)


@pytest.mark.parametrize(
    ("size", "owns", "can"),
    [("solo", None, False), ("startup", None, True), ("large", None, True), ("large", False, False)],
)
def test_who_can_tune(size: str, owns: bool | None, can: bool) -> None:
    assert (
        Team.model_validate({"team_size": size, "regulated": False, "operates_models": owns}).can_tune is can
    )
