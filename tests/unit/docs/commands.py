"""`twinrail` commands as a page writes them, and what the command line itself says that it takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from io import StringIO

from deploy.cli import main

#: Words that end a command, or stand in for what the reader fills in.
_BREAKS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "(", ")", ";;", "2>"}
_PROGRAM = re.compile(r"^(\.venv/bin/)?twinrail$")


@dataclass(frozen=True, slots=True)
class Help:
    """What `--help` of a command lists."""

    flags: frozenset[str]
    commands: frozenset[str]


def written(text: str) -> Iterator[list[str]]:
    """The words after `twinrail` of every such command in a shell text."""
    for line in text.replace("\\\n", " ").splitlines():
        words = _words(line)
        for start, word in enumerate(words):
            if _PROGRAM.match(word) and not (start and words[start - 1] in ("-m", "-C")):
                rest = words[start + 1 :]
                end = next((n for n, each in enumerate(rest) if each in _BREAKS), len(rest))
                yield rest[:end]


def fault(words: list[str]) -> str | None:
    """What the command line would not take of a command, None if it takes all of it."""
    path: list[str] = []
    rest = list(words)
    while rest and (listed := help_of(tuple(path)).commands):
        if rest[0] not in listed:
            return f"`twinrail {' '.join(path)}` has no command {rest[0]!r}, only {', '.join(sorted(listed))}"
        path.append(rest.pop(0))
    known = help_of(tuple(path)).flags
    for word in rest:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            return f"`twinrail {' '.join(path)}` has no {flag}, only {', '.join(sorted(known))}"
    return None


@cache
def help_of(path: tuple[str, ...]) -> Help:
    """Ask the command line itself."""
    said = StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        main([*path, "--help"])
    text = said.getvalue()
    usage, _, rest = text.partition("\n\n")
    has_commands = usage.rstrip().endswith("...")
    listed = re.findall(r"^    ([a-z][a-z-]*)(?:\s{2,}|$)", rest, re.MULTILINE) if has_commands else []
    return Help(frozenset(re.findall(r"--[a-z][a-z-]*", text)), frozenset(listed))


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line.replace("$(", " ( "), posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        return list(lexer)
    except ValueError:  # a quote that goes on in the next line: the rest is text, not a command
        return line.split()
