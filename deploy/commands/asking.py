"""`ask` and `search`: a question to the running gateway, for people and for shells."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.commands.context import KEY_NAMES, CommandLine, Context
from deploy.errors import GatewayFailedError
from deploy.output import table

#: No evidence, no answer: a shell can tell that from an answer.
NOT_ENOUGH_EVIDENCE = 4
UNANSWERED = ("abstained", "fallback")
WIDTH = 100


def add(commands: CommandLine) -> None:
    """Declare the commands."""
    ask = commands.command(
        "ask",
        _ask,
        summary="Ask the help centre a question.",
        example='twinrail ask "How much is Sync Plus a month?"',
        exit_codes="0 answered, 4 not enough evidence for an answer (abstained or fallback)",
    )
    ask.add_argument("question", help="the customer's words; quote them")
    ask.add_argument("--stream", action="store_true", help="show each sentence as soon as it is checked")
    ask.add_argument("--conversation", metavar="ID", help="keep the arms of an earlier question")
    ask.add_argument(
        "--knowledge", metavar="VERSION", help="pin this knowledge version (asks with an eval key)"
    )
    ask.add_argument("--model", metavar="VERSION", help="pin this model version (asks with an eval key)")
    _add_asker(ask)

    search = commands.command(
        "search",
        _search,
        summary="Search the help centre without generating an answer.",
        example='twinrail search "refund after a yearly renewal" --k 3',
        exit_codes="0 found something, 4 found nothing",
    )
    search.add_argument("question", help="what to look for; quote it")
    search.add_argument("--k", type=int, default=5, help="hits wanted (default 5)")
    search.add_argument(
        "--as-of", metavar="WHEN", help="snapshot number, or a time such as 2026-01-31T09:00:00Z"
    )
    search.add_argument("--effective-on", metavar="DAY", help="day whose facts count, such as 2026-01-31")
    _add_asker(search)


def _add_asker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--as",
        dest="asker",
        choices=KEY_NAMES,
        default=None,
        help="ask with this key of TWINRAIL_HOME (default: customer)",
    )


async def _ask(args: argparse.Namespace, context: Context) -> int:
    body: dict[str, Any] = {"question": args.question}
    if args.conversation:
        body["conversation_id"] = args.conversation
    pin = {name: value for name in ("knowledge", "model") if (value := getattr(args, name))}
    if pin:
        body["pin"] = pin
    async with context.gateway(args.asker or ("eval" if pin else "customer")) as gateway:
        if args.stream:
            answer = await _streamed(gateway.stream("/v1/answers", {**body, "stream": True}), context)
        else:
            answer = await gateway.post("/v1/answers", body)
            context.out.result(answer, f"{_wrapped(answer['answer'])}\n\n{footer(answer)}")
    return NOT_ENOUGH_EVIDENCE if answer["status"] in UNANSWERED else 0


async def _streamed(events: Any, context: Context) -> Mapping[str, Any]:
    """Print events as they come: JSON lines, or the text and then its footer."""
    out = context.out
    async for event in events:
        if out.as_json:
            out.result({"event": event.name, **event.data}, "")
        elif event.name == "answer.delta":
            out.piece(event.data["text"])
        if event.name == "answer.completed":
            if not out.as_json:
                out.line(f"\n\n{footer(event.data)}")
            completed: Mapping[str, Any] = event.data
            return completed
    raise GatewayFailedError("gateway: the stream ended before the answer was complete; ask again")


def footer(answer: Mapping[str, Any]) -> str:
    """Sources, stamps and what did not work, below an answer."""
    parts = []
    if answer["citations"]:
        parts.append("Sources\n" + "\n".join(_source(citation) for citation in answer["citations"]))
    stamps = [
        f"{rail:<9} {answer['versions'][rail] or '-'} ({answer['arms'][rail]})"
        for rail in ("knowledge", "model")
    ]
    seconds = answer["timings_ms"].get("total", 0.0) / 1000
    notes = f"{answer['status']} in {seconds:.1f} s · turn {answer['id']}"
    if answer["degraded"]:
        notes += f" · degraded: {', '.join(answer['degraded'])}"
    if fallback := answer.get("fallback"):
        notes += f" · {fallback['step']} for {fallback['tried'][0]['version']}: {fallback['because']}"
    return "\n\n".join([*parts, "\n".join([*stamps, notes])])


def _source(citation: Mapping[str, Any]) -> str:
    quote = textwrap.shorten(citation["quote"], width=WIDTH - 8, placeholder=" ...")
    place = f"  {citation['url']}" if citation["url"] else ""
    return f'  [{citation["n"]}] {citation["title"]}{place}\n      "{quote}"'


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.fill(line, WIDTH, break_long_words=False) for line in text.splitlines())


async def _search(args: argparse.Namespace, context: Context) -> int:
    body: dict[str, Any] = {"question": args.question, "k": args.k}
    if args.as_of:
        body["as_of"] = int(args.as_of) if args.as_of.isdecimal() else args.as_of
    if args.effective_on:
        body["effective_on"] = args.effective_on
    looks_back = args.as_of or args.effective_on
    async with context.gateway(args.asker or ("eval" if looks_back else "customer")) as gateway:
        found = await gateway.post("/v1/search", body)
    context.out.result(found, _hits(found["hits"]))
    context.out.note(
        f"{found['version']}@{found['snapshot']} ({found['arm']}), confidence {found['confidence']:.2f}, "
        f"{found['candidates']} candidates, {found['mode']}"
    )
    return 0 if found["hits"] else NOT_ENOUGH_EVIDENCE


def _hits(hits: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ("rank", "score", "dense", "lexical", "document", "passage"),
        [
            (
                hit["rank"],
                f"{hit['score']:.3f}",
                f"{hit['dense_score']:.3f}",
                f"{hit['lexical_score']:.3f}",
                hit["document_id"],
                textwrap.shorten(
                    " > ".join([hit["title"], *hit["heading_path"][1:]]), 60, placeholder=" ..."
                ),
            )
            for hit in hits
        ],
    )
