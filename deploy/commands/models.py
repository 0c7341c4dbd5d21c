"""`model register`: a version of the model rail with a task schema and a prompt of the operator's own."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from deploy.commands.context import CommandLine, Context
from deploy.database import database, pool
from deploy.errors import UsageError
from deploy.migrate import migrate
from deploy.models import SHIPPED_ADAPTER, ModelFolders
from deploy.release import digest_of_name
from deploy.settings import load
from gateway.outcome import Unfit, parse_draft, text_field, validator_of
from serving.errors import EngineUnavailableError, UnknownModelVersionError
from serving.pool import EngineHealth, EnginePool
from serving.prompting import MESSAGE_OVERHEAD_TOKENS, PROMPTS, load_prompt, render, token_counter
from serving.registry import ModelRegistry
from serving.settings import ServingSettings
from serving.versions import SCHEMAS, Decoding, ModelVersion, RegisteredVersion, load_task_schema

AUTHOR = "twinrail model register"
PACKAGED_SCHEMAS = ("support_answer", "ticket_routing")
PACKAGED_PROMPTS = ("support_short", "support_strong", "ticket_routing")
BASE, TUNED = "base", "tuned"
#: What a prompt may take on a small machine before its first token takes too long.
PROMPT_BUDGET_TOKENS = 700
#: Part of an id, of a URL and of a shell word.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weights that a version stands on."""

    base_digest: str
    adapter_digest: str | None
    #: What a person calls them: `base`, `tuned`, or the name that an engine serves.
    name: str
    #: The name under which engines list them; None: each version under its own id.
    served_name: str | None = None


def add(commands: CommandLine) -> None:
    """Declare the commands."""
    models = commands.group("model", "Versions of the model rail: register your own.")
    register = models.command(
        "register",
        _register,
        summary="Make a model version of a task schema and a prompt, and print its id. Nothing goes live.",
        example="twinrail model register --name routing --schema ticket_routing --prompt ticket_routing",
        exit_codes="0 registered, or registered before; 2 schema, prompt or name cannot be used; "
        "3 no database or engine",
    )
    register.add_argument("--name", required=True, help="the middle of the id m-NAME-<digest>")
    register.add_argument(
        "--schema",
        required=True,
        metavar="FILE",
        help=f"JSON Schema file, or a packaged one: {', '.join(PACKAGED_SCHEMAS)}",
    )
    register.add_argument(
        "--prompt",
        required=True,
        metavar="FILE",
        help=f"YAML file with name, system and shots, or a packaged one: {', '.join(PACKAGED_PROMPTS)}",
    )
    register.add_argument(
        "--weights", choices=(BASE, TUNED), help="which of this release's weights (default: base)"
    )
    register.add_argument(
        "--budget-tokens",
        type=int,
        default=PROMPT_BUDGET_TOKENS,
        metavar="N",
        help="tokens of the whole prompt (default: %(default)s)",
    )
    register.add_argument(
        "--max-tokens",
        type=int,
        default=Decoding().max_tokens,
        metavar="N",
        help="tokens of the longest answer (default: %(default)s)",
    )
    register.add_argument(
        "--served-name", metavar="NAME", help="with SERVING_ENGINES: the name that those engines list"
    )
    register.add_argument(
        "--dry-run", action="store_true", help="check everything and print the id, and write nothing"
    )


async def _register(args: argparse.Namespace, context: Context) -> int:
    settings = load(ServingSettings)
    _check_numbers(args, settings)
    schema_file = _file("--schema", args.schema, PACKAGED_SCHEMAS, SCHEMAS, ".json")
    schema = load_task_schema(schema_file)
    prompt = load_prompt(_file("--prompt", args.prompt, PACKAGED_PROMPTS, PROMPTS, ".yaml"))
    weights = await _weights(args, context, settings)
    version = ModelVersion(
        name=args.name,
        base_digest=weights.base_digest,
        adapter_digest=weights.adapter_digest,
        prompt=prompt,
        task=str(schema.get("title") or schema_file.stem),
        schema=schema,
        decoding=Decoding(max_tokens=args.max_tokens),
        prompt_budget_tokens=args.budget_tokens,
    )
    _check_shots(version)
    _check_head(version, context.models)
    if args.dry_run:
        context.out.note(f"would register {version.id} for {version.task} on the weights {weights.name}")
        context.out.result(_row(version, weights, new=True, dry_run=True), version.id)
        return 0
    async with database(context.settings, context.home) as url:
        await migrate(url, on_step=lambda name: context.out.note(f"migrated {name}"))
        async with pool(url, size=1) as connections:
            new = await _write(ModelRegistry(connections), version, weights)
    verb = "registered" if new else "registered before:"
    context.out.note(f"{verb} {version.id} for {version.task} on the weights {weights.name}")
    for line in _next_steps(version, weights):
        context.out.note(line)
    context.out.result(_row(version, weights, new=new, dry_run=False), version.id)
    return 0


async def _write(registry: ModelRegistry, version: ModelVersion, weights: Weights) -> bool:
    """Whether the version is new. A version that is there keeps the served name that it has."""
    try:
        known: RegisteredVersion | None = await registry.version(version.id)
    except UnknownModelVersionError:
        known = None
    registered = known or await registry.register(
        version,
        manifest={"source": weights.name},
        served_name=weights.served_name,
        author=AUTHOR,
    )
    wanted = weights.served_name or version.id
    if registered.served_name != wanted:
        raise UsageError(
            f"--served-name: {version.id} is registered as served by {registered.served_name!r}, "
            f"not by {wanted!r}, and a version never changes; give another --name"
        )
    return known is None


# ---- what the version stands on ----------------------------------------------------------------------


async def _weights(args: argparse.Namespace, context: Context, settings: ServingSettings) -> Weights:
    if not settings.engine_urls:
        if args.served_name:
            raise UsageError(
                "--served-name: names what the engines of SERVING_ENGINES list, and that is not set; "
                "set it, or leave --served-name out: this machine's engines serve each version by its id"
            )
        return own_weights(args.weights or BASE, context.models)
    if args.weights:
        raise UsageError(
            "--weights: names weights of this release, and SERVING_ENGINES serves its own; "
            "give --served-name instead, or unset SERVING_ENGINES"
        )
    key = settings.engine_api_key
    async with aiohttp.ClientSession() as session:
        engines = EnginePool(settings.engine_urls, session, api_key=key.get_secret_value() if key else None)
        name = _listed(args.served_name, await engines.health())
    return Weights(base_digest=digest_of_name(name), adapter_digest=None, name=name, served_name=name)


def _listed(wanted: str | None, engines: tuple[EngineHealth, ...]) -> str:
    """The name to bind to: the wanted one if an engine lists it, the only one if none is wanted."""
    names = list(dict.fromkeys(name for engine in engines for name in engine.served))
    if not names:
        reasons = "; ".join(f"{engine.url}: {engine.reason or 'lists no model'}" for engine in engines)
        raise EngineUnavailableError(
            f"SERVING_ENGINES: no engine lists a model ({reasons}); start vLLM there"
        )
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted not in names:
        problem = f"{wanted!r} is not listed by" if wanted else "say which of several names of"
        raise UsageError(
            f"--served-name: {problem} the engines of SERVING_ENGINES; they list {', '.join(names)}"
        )
    return wanted


def own_weights(kind: str, folders: ModelFolders, *, adapter: Path = SHIPPED_ADAPTER) -> Weights:
    """The weights that `twinrail up` prepares, known from the shipped manifest before they are prepared."""
    manifest = adapter / "manifest.json"
    if manifest.exists():
        made = json.loads(manifest.read_text(encoding="utf-8"))
        tuned = str(made["adapter_digest"]) if kind == TUNED else None
        return Weights(base_digest=str(made["base_digest"]), adapter_digest=tuned, name=kind)
    if kind == TUNED:
        raise UsageError("--weights: this release ships no tuned model; use base")
    if not (folders.base / "config.json").exists():
        raise UsageError(
            f"--weights: the base model is not prepared in {folders.root}; run `twinrail up` first"
        )
    from serving.weights import base_digest

    return Weights(base_digest=base_digest(folders.base), adapter_digest=None, name=kind)


# ---- checks: what would otherwise fail in front of a customer ----------------------------------------


def _file(flag: str, given: str, packaged: tuple[str, ...], folder: Path, suffix: str) -> Path:
    """The packaged file of that name, else the path itself."""
    path = folder / f"{given}{suffix}" if given in packaged else Path(given)
    if not path.is_file():
        raise UsageError(f"{flag}: {given} is no file; give a {suffix} file, or {' or '.join(packaged)}")
    return path


def _check_numbers(args: argparse.Namespace, settings: ServingSettings) -> None:
    if not _NAME.fullmatch(args.name):
        raise UsageError(
            f"--name: {args.name!r} cannot be part of an id; "
            "use 1 to 40 lower-case letters, digits and hyphens"
        )
    for flag, value in (("--budget-tokens", args.budget_tokens), ("--max-tokens", args.max_tokens)):
        if value < 1:
            raise UsageError(f"{flag}: {value} is not a number of tokens; give 1 or more")
    room = settings.max_model_len
    if not settings.engine_urls and args.budget_tokens + args.max_tokens > room:
        raise UsageError(
            f"--budget-tokens: {args.budget_tokens} of prompt and {args.max_tokens} of answer are more than "
            f"the {room} tokens of an engine; lower one, or raise SERVING_MAX_MODEL_LEN"
        )


def _check_shots(version: ModelVersion) -> None:
    """An example that breaks the schema teaches the model what its grammar then forbids."""
    validator, field = validator_of(version.schema), text_field(version.schema)
    for n, shot in enumerate(version.prompt.shots):
        read = parse_draft(shot.answer, validator=validator, field=field)
        if isinstance(read, Unfit):
            raise UsageError(
                f"--prompt: shots[{n}].answer of {version.prompt.name} does not fit the schema of "
                f"{version.task} ({read.reason}); correct the example, or choose the prompt of this task"
            )


def _check_head(version: ModelVersion, folders: ModelFolders) -> None:
    """A prompt that fills its own budget leaves nothing for passages. Needs the tokenizer to be prepared."""
    if not folders.tokenizer.exists():
        return
    count = token_counter(folders.tokenizer)
    head = sum(count(m.content) + MESSAGE_OVERHEAD_TOKENS for m in render(version.prompt, (), ""))
    if head >= version.prompt_budget_tokens:
        raise UsageError(
            f"--budget-tokens: {version.prompt.name} alone takes {head} of "
            f"{version.prompt_budget_tokens} tokens; raise the budget, or shorten the prompt"
        )


# ---- what is said ------------------------------------------------------------------------------------


def _row(version: ModelVersion, weights: Weights, *, new: bool, dry_run: bool) -> dict[str, Any]:
    return {
        "id": version.id,
        "task": version.task,
        "prompt": version.prompt.name,
        "weights": weights.name,
        "served_name": weights.served_name or version.id,
        "new": new,
        "dry_run": dry_run,
    }


def _next_steps(version: ModelVersion, weights: Weights) -> tuple[str, ...]:
    if weights.served_name:
        served = f"1. it is served already, as {weights.served_name}"
    else:
        served = "1. have it served: `twinrail down`, then `twinrail up`; engines list it from then on"
    tried = f'2. try it alone: `twinrail ask "..." --model {version.id}`'
    moves = f"`twinrail canary model {version.id} --percent 5`, or `twinrail promote model {version.id}`"
    return served, tried, f"3. let it live: {moves}"
