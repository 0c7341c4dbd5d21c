"""How the rows of the quality bench are made from scores of single questions."""

from __future__ import annotations

from bench.question_sets import Question
from bench.retrieval_quality import Score, row_of, tabulate, unrewritten
from retrieval.hits import Said


def _question(name: str, *, tuning: bool, kind: str = "", history: tuple[Said, ...] = ()) -> Question:
    return Question(
        id=name,
        corpus="set",
        kind=kind,
        text=name,
        gold=frozenset({name}),
        principals=("public",),
        tuning=tuning,
        cluster=name,
        history=history,
    )


def _score(ndcg10: float) -> Score:
    return Score(ndcg10=ndcg10, recall10=1.0, hit1=1.0)


def _legs(bm25: float, dense: float, fused: float) -> dict[str, Score]:
    return {"BM25": _score(bm25), "dense": _score(dense), "fused": _score(fused)}


SAID = (Said(role="user", text="about the north gate"),)


def test_no_row_mixes_questions_that_chose_the_weight_with_those_that_judge_it() -> None:
    questions = [
        _question(f"{kind} {side} {at}", tuning=side == "fit", kind=kind)
        for kind in ("heading", "item")
        for side in ("fit", "judge")
        for at in range(2)
    ]

    table = tabulate(questions, {each.id: _legs(0.5, 0.4, 0.6) for each in questions})

    assert {name: (row["n"], row["aim_met"]) for name, row in table.items()} == {
        "fold 0": (4, True),
        "fold 0, heading": (2, True),
        "fold 0, item": (2, True),
        "folds 1-4": (4, None),
        "folds 1-4, heading": (2, None),
        "folds 1-4, item": (2, None),
    }


def test_one_question_without_history_does_not_cost_a_set_its_rewritten_column() -> None:
    followed, opening = _question("b", tuning=False, history=SAID), _question("a", tuning=False)
    scores = {
        "a": _legs(0.2, 0.2, 0.2) | {"reranked": _score(0.3)},
        "b": _legs(0.2, 0.2, 0.2)
        | {"reranked": _score(0.3), "rewritten": _score(0.8), "rewritten, reranked": _score(0.9)},
    }
    scores["a"] |= unrewritten(scores["a"])

    table = tabulate([opening, followed], scores)

    assert table["fold 0"]["rewritten"]["ndcg10"] == 0.5
    assert table["fold 0"]["rewritten, reranked"]["ndcg10"] == 0.6
    assert table["fold 0, with history"]["n"] == 1
    assert table["fold 0, with history"]["rewritten"]["ndcg10"] == 0.8


def test_the_aim_is_missed_from_more_than_the_tolerance_on() -> None:
    question = _question("a", tuning=False)

    assert row_of([question], {"a": _legs(0.9, 0.2, 0.895)})["aim_met"] is True
    assert row_of([question], {"a": _legs(0.9, 0.2, 0.8949)})["aim_met"] is False
