"""An answer as people see it."""

from typing import Any

from deploy.commands.asking import footer

ANSWER: dict[str, Any] = {
    "id": "019a8f3e-7c00-7000-8000-000000000000",
    "status": "answered",
    "citations": [
        {"n": 1, "title": "Sync plans", "url": "https://h/sync", "quote": "Sync Plus costs\n$9 a month."}
    ],
    "versions": {"knowledge": "k-start-1a2b3c4d@3", "model": "m-support-5e6f7a8b"},
    "arms": {"knowledge": "stable", "model": "canary"},
    "degraded": [],
    "fallback": None,
    "timings_ms": {"total": 2155.0},
}


def test_footer_has_numbered_sources_and_both_stamps() -> None:
    assert footer(ANSWER).splitlines() == [
        "Sources",
        "  [1] Sync plans  https://h/sync",
        '      "Sync Plus costs $9 a month."',
        "",
        "knowledge k-start-1a2b3c4d@3 (stable)",
        "model     m-support-5e6f7a8b (canary)",
        "answered in 2.2 s · turn 019a8f3e-7c00-7000-8000-000000000000",
    ]


def test_footer_says_what_did_not_work_and_leaves_out_what_is_not_there() -> None:
    bare = {
        **ANSWER,
        "citations": [],
        "degraded": ["retrieval"],
        "versions": {"knowledge": None, "model": None},
    }
    lines = footer(bare).splitlines()
    assert lines[0] == "knowledge - (stable)"
    assert lines[-1].endswith("· degraded: retrieval")


def test_footer_says_who_stood_in_for_whom() -> None:
    tried = {"step": "assigned", "version": "m-new-0a1b2c3d", "because": "circuit", "failure": None}
    fallback = {"step": "previous", "because": "circuit", "tried": [tried]}
    assert footer({**ANSWER, "fallback": fallback}).endswith(" · previous for m-new-0a1b2c3d: circuit")
