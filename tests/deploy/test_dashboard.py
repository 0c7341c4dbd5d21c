"""The checked-in board: it is what its script builds, and Grafana can lay it out."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

from deploy.dashboards.build import main, rendered
from tests.deploy.expressions import BOARD, board, panel_expressions


def panels() -> list[dict[str, Any]]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def test_the_file_is_what_the_script_builds() -> None:
    assert BOARD.read_text(encoding="utf-8") == rendered(), "run `python -m deploy.dashboards.build`"
    assert main(["--check"]) == 0


def test_rows_keep_the_two_layers_apart() -> None:
    rows = [panel["title"] for panel in board()["panels"] if panel["type"] == "row"]
    assert rows == [
        "Golden path",
        "Retrieval (knowledge rail)",
        "Jobs and freshness (knowledge rail)",
        "Generation (model rail)",
        "Versions and arms",
        "Shadow of the knowledge rail",
        "Database and gateway overhead",
    ]


def test_panels_fit_the_grid_without_overlap() -> None:
    for panel in board()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
    for one, other in combinations(board()["panels"], 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one['title']!r} overlaps {other['title']!r}"


def test_every_panel_says_what_it_shows_and_reads_the_chosen_data_source() -> None:
    assert len({panel["id"] for panel in board()["panels"]}) == len(board()["panels"])
    for panel in panels():
        assert panel["description"].endswith((".", ":")), panel["title"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_no_query_averages_over_the_lifetime_of_a_process() -> None:
    counted = re.compile(r"\w+_(?:sum|count|bucket|total)\b(?:\{[^}]*\})?(.{0,18})")
    for expression in panel_expressions():
        for rest in counted.findall(expression.text):
            assert rest.startswith("[$__rate_interval]"), expression.where
