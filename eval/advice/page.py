"""The advice as one HTML page without any outside resource, for a support lead; made from the JSON alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from eval.advice import charts
from eval.advice.cost_page import cost_section
from eval.advice.figures import Figures
from eval.advice.framework_page import framework_sections
from eval.advice.markup import Markup, joined, tag
from eval.advice.tables import NONE, interval, legend, plain, section, table

_CLUSTERS_SHOWN = 15
_LABELS_SHOWN = 12


def advice_page(advice: Mapping[str, Any]) -> str:
    """The page of an advice's JSON."""
    found = Figures(advice)
    sections = (
        _verdict(found),
        _order(found),
        *(_failures(found) if advice["diagnosed"] else ()),
        _fixes(found),
        _arms(found),
        _training(found),
        *((cost_section(found),) if advice["costs"] else ()),
        _changes(found),
        _enough(found),
        *framework_sections(found),
        _provenance(found),
    )
    return "<!doctype html>\n" + tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", f"Advice: {found.text('title')}"),
            tag("style", Markup(_style())),
        ),
        tag("body", tag("main", *sections)),
        lang="en",
    )


@cache
def _style() -> str:
    return (files("eval.advice") / "page.css").read_text(encoding="utf-8")


def _verdict(found: Figures) -> Markup:
    evidence = None
    if found.text("by_evidence") != found.text("verdict"):
        evidence = tag("p", f"By the failures alone: {plain(found.text('by_evidence'))}.", class_="aside")
    return tag(
        "header",
        tag("p", "What to fix, by evidence", class_="over"),
        tag("h1", found.text("title")),
        tag("p", found.text("sentence"), class_="sentence"),
        evidence,
        _strip(found),
        class_=f"verdict {found.text('verdict')}",
    )


def _strip(found: Figures) -> Markup:
    cells = [("questions", found.count("power", "questions"))]
    if found.value["diagnosed"]:
        cells.append(("diagnosed arm", Markup(tag("span", found.text("diagnosed", "arm")))))
    if found.value["power"]["visible_gain"] is not None:
        cells.append(
            (
                "gain that they show four times in five",
                joined(found.points("power", "visible_gain"), " points"),
            )
        )
    if found.value["costs"] and found.value["costs"]["break_even"]["answers"] is not None:
        cells.append(("answers until tuning pays", found.count("costs", "break_even", "answers")))
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", shown)) for name, shown in cells),
        class_="strip",
    )


def _order(found: Figures) -> Markup:
    steps = list(found.each("order"))
    if not steps:
        nothing = "Nothing yet: see what is missing." if found.value["needs"] else "Nothing has to be mended."
        return section("What to do, in order", tag("p", nothing))
    return section(
        "What to do, in order",
        tag(
            "ol",
            *(
                tag(
                    "li",
                    tag("strong", step.text("title")),
                    tag("span", step.text("when"), class_="when"),
                    tag("p", f"{step.text('steps')}."),
                    tag("p", f"{step.text('owner')}: {step.text('why')}", class_="aside"),
                )
                for step in steps
            ),
            class_="order",
        ),
    )


def _failures(found: Figures) -> Iterable[Markup]:
    diagnosed = found.at("diagnosed")
    labels = list(diagnosed.each("labels"))[:_LABELS_SHOWN]
    parts: list[Markup | str | None] = []
    if labels:
        parts += [
            legend(
                [layer for layer in charts.LAYERS if any(row.text("layer") == layer for row in labels)],
                "layer",
            ),
            charts.label_bars(labels, title="Failures by cause, as a share of all answers"),
        ]
    parts.append(
        table(
            ("layer of the system", "answers that fail there", "share", "between", "what that is"),
            [
                (
                    group.text("group"),
                    joined(group.count("share", "k"), " of ", group.count("share", "n")),
                    group.percent("share", "value"),
                    interval(group.at("share"), "percent"),
                    tag("span", group.text("state"), class_=f"state {group.text('state')}"),
                )
                for group in diagnosed.each("groups")
            ],
        )
    )
    if diagnosed.value["coverage_gaps"]:
        parts.append(
            tag(
                "p",
                diagnosed.count("coverage_gaps"),
                " more questions were rightly not answered, because no document says it: "
                "the content owner may want to write them.",
                class_="aside",
            )
        )
    yield section(f"Why answers of {diagnosed.text('arm')} fail", *parts)
    clusters = [each for each in diagnosed.each("clusters") if each.value["failed"]][:_CLUSTERS_SHOWN]
    if clusters:
        yield section("Where they fail: clusters of questions", _heat(clusters))


def _heat(clusters: Sequence[Figures]) -> Markup:
    names = sorted({label for each in clusters for label in each.value["labels"]})
    most = max(count for each in clusters for count in each.value["labels"].values())

    def cell(each: Figures, name: str) -> Markup:
        if name not in each.value["labels"]:
            return tag("td", class_="none")
        warmth = 0.12 + 0.78 * each.value["labels"][name] / most
        return tag("td", each.count("labels", name), style=f"--warmth:{warmth:.2f}", class_="heat")

    return tag(
        "table",
        tag(
            "thead",
            tag("tr", *(tag("th", name) for name in ("cluster", "failed", *map(plain, names)))),
        ),
        tag(
            "tbody",
            *(
                tag(
                    "tr",
                    tag("td", each.text("cluster")),
                    tag("td", each.count("failed"), " of ", each.count("asked")),
                    *(cell(each, name) for name in names),
                )
                for each in clusters
            ),
        ),
        class_="heatmap",
    )


def _fixes(found: Figures) -> Markup:
    fixes = list(found.each("fixes"))
    if not fixes:
        return section("What each fix would give", tag("p", _without_fixes(found)))
    return section(
        "What each fix would give",
        legend(["measured", "at_most"], "basis"),
        charts.gains(fixes, title="Answers gained in points, with intervals over clusters"),
        table(
            ("fix", "addresses", "expected, in points", "between", "known from", "read these"),
            [
                (
                    joined(fix.text("title"), tag("br"), tag("span", fix.text("owner"), class_="aside")),
                    joined(fix.count("addresses", "k"), " of ", fix.count("addresses", "n")),
                    fix.points("effect", "value"),
                    interval(fix.at("effect"), "points"),
                    fix.text("effect", "how"),
                    tag("code", ", ".join(fix.value["examples"])),
                )
                for fix in fixes
            ],
        ),
    )


def _without_fixes(found: Figures) -> str:
    if found.text("verdict") == "not_enough_evidence":
        return "Too little is known to say."
    return "No failure with a known cause."


def _arms(found: Figures) -> Markup:
    arms = list(found.each("arms"))
    if not arms:
        return section("The arms beside each other", tag("p", "No arm has a decided question."))
    groups = list(arms[0].value["metrics"])
    labels = sorted({label for arm in arms for label in arm.value["labels"]})
    return section(
        "The arms beside each other",
        charts.arm_bars(arms, title="Right answers in each arm"),
        *(
            tag(
                "p",
                joined(each.text("arm"), " stands for ", each.text("kind"), ": ", each.text("because"), "."),
            )
            for each in found.each("choices")
        ),
        tag("h3", "Five metrics, never added up"),
        table(
            ("arm", *groups),
            [
                (
                    arm.text("name"),
                    *(
                        joined(arm.count("metrics", group, "k"), " of ", arm.count("metrics", group, "n"))
                        if (arm.value["metrics"][group] or {}).get("n")
                        else NONE
                        for group in groups
                    ),
                )
                for arm in arms
            ],
        ),
        tag("h3", "Causes in each arm") if labels else None,
        table(
            ("arm", *map(plain, labels)),
            [
                (
                    arm.text("name"),
                    *(
                        arm.count("labels", label) if label in arm.value["labels"] else Markup("")
                        for label in labels
                    ),
                )
                for arm in arms
            ],
        )
        if labels
        else None,
    )


def _training(found: Figures) -> Markup:
    behaviours = list(found.each("eligibility"))
    if not behaviours:
        return section(
            "May anything be trained?",
            tag("p", "No failure is one of behaviour, so there is nothing to train."),
        )
    return section(
        "May anything be trained?",
        *(
            tag(
                "details",
                tag(
                    "summary",
                    tag("strong", plain(each.text("behaviour"))),
                    tag("span", plain(each.text("standing")), class_=f"state {each.text('standing')}"),
                    tag("span", each.text("advice"), class_="aside"),
                ),
                table(
                    ("condition", "met", "evidence"),
                    [
                        (condition.text("name"), _met(condition.value["met"]), condition.text("evidence"))
                        for condition in each.each("conditions")
                    ],
                ),
                open=None if each.text("standing") == "too_rare" else "open",
            )
            for each in behaviours
        ),
    )


def _met(met: bool | None) -> Markup:
    word = {True: "yes", False: "no", None: "no evidence"}[met]
    return tag("span", word, class_=f"answer {word.replace(' ', '_')}")


def _changes(found: Figures) -> Markup:
    changes = list(found.each("changes"))
    if not changes:
        return section("What would change the verdict", tag("p", "No single fact that we know of."))
    return section(
        "What would change the verdict",
        table(
            ("if", "the verdict would be"),
            [(change.text("condition"), tag("strong", plain(change.text("verdict")))) for change in changes],
        ),
    )


def _enough(found: Figures) -> Markup:
    power = found.at("power")
    lines: list[Markup] = []
    if power.value["visible_gain"] is not None:
        lines.append(
            tag(
                "li",
                power.count("questions"),
                " questions show a gain of ",
                power.points("visible_gain"),
                " points four times in five.",
            )
        )
    if power.value["questions_for_asked_gain"] is not None:
        lines.append(
            tag(
                "li",
                "To show ",
                power.points("asked_gain"),
                " points takes about ",
                power.count("questions_for_asked_gain"),
                " questions.",
            )
        )
    for need in found.each("needs"):
        if need.value["questions"]:
            lines.append(tag("li", need.text("what"), ": ", need.count("questions"), " more questions."))
        else:
            lines.append(tag("li", f"{need.text('what')}."))
    if found.value["agreement"]:
        seen = found.at("agreement")
        lines.append(
            tag(
                "li",
                "People agree with ",
                seen.count("k"),
                " of ",
                seen.count("n"),
                " labels that both gave.",
            )
        )
    return section("Is that enough evidence?", tag("ul", *lines))


def _provenance(found: Figures) -> Markup:
    return tag(
        "footer",
        tag(
            "p",
            f"Run {found.text('run')}. Label criteria: {', '.join(found.value['criteria']) or 'none'}.",
        ),
        tag("p", "Questions ", tag("code", found.text("question_set_sha256"))),
        tag("p", "Labels ", tag("code", found.text("labels_sha256"))),
        tag(
            "p",
            "A layer is serious above ",
            found.percent("thresholds", "serious_above"),
            " by the lower end of its interval, and small below ",
            found.percent("thresholds", "small_below"),
            " by the upper end. Fewer than ",
            found.count("thresholds", "floor_questions"),
            " questions decide nothing; training wants ",
            found.count("thresholds", "tune_seen"),
            " failures in ",
            found.count("thresholds", "tune_rows"),
            " questions and ",
            found.count("thresholds", "tune_clusters"),
            " clusters, after ",
            found.count("thresholds", "tune_prompts"),
            " prompts.",
        ),
    )
