"""The articles that are missing, as Markdown for the owner of the content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.exporting.cleaning import Cleaner


def gaps_markdown(gaps: Sequence[Mapping[str, Any]], cleaner: Cleaner) -> str:
    """Each missing article with the questions that it has to answer, the most wanted first."""
    ordered = sorted(gaps, key=lambda gap: (-len(gap["questions"]), gap["name"]))
    total = sum(len(gap["questions"]) for gap in ordered)
    parts = [f"# Articles to write\n\n{len(ordered)} articles would answer {total} reviewed questions."]
    for gap in ordered:
        asked = sorted(question["asked_at"][:10] for question in gap["questions"])
        since = asked[0] if asked[0] == asked[-1] else f"{asked[0]} to {asked[-1]}"
        # The gateway's own draft of the question list, one heading deeper.
        draft = "\n".join(
            f"#{line}" if line.startswith("# ") else line for line in cleaner.text(gap["draft"]).splitlines()
        )
        parts.append(f"{draft}\n\nAsked {len(asked)} times, {since}.")
    return "\n\n".join(parts) + "\n"
