"""`model register`: a version of the model rail with a task schema and a prompt of the operator's own."""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from deploy.commands import model_versions, rails, staging
from deploy.commands.context import CommandLine, Context, person
from deploy.database import database, pool
from deploy.errors import UsageError
from deploy.migrate import migrate
from deploy.models import ModelFolders
from deploy.registrations import Wish, known_of, look_up, state_after
from deploy.release import OUTSIDE, digest_of_name
from deploy.settings import load
from deploy.stored_turns import unfit_turns
from deploy.version_weights import BASE, TUNED, Weights, own_adapter, own_weights, take_in
from gateway.outcome import Unfit, parse_draft, text_field, validator_of
from serving.errors import EngineUnavailableError
from serving.manifests import Manifest, identity_of, write_manifest
from serving.pool import EngineHealth, EnginePool
from serving.prompting import MESSAGE_OVERHEAD_TOKENS, PROMPTS, load_prompt, render, token_counter
from serving.registry import ModelRegistry
from serving.settings import ServingSettings
from serving.versions import (
    SCHEMAS,
    Decoding,
    ModelVersion,
    RegisteredVersion,
    VersionState,
    load_task_schema,
)

PACKAGED_SCHEMAS = ("support_answer", "ticket_routing")
PACKAGED_PROMPTS = ("support_sentences", "support_short", "support_strong", "ticket_routing")
#: What a prompt may take on a small machine before its first token takes too long.
PROMPT_BUDGET_TOKENS = 700
#: Part of an id, of a URL and of a shell word.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def add(commands: CommandLine) -> None:
    """Declare the commands."""
    models = commands.group("model", "Versions of the model rail: list, register, compare, move, retire.")
    model_versions.add(models)
    rails.add_model(models)
    staging.add(models)
    register = models.command(
        "register",
        _register,
        summary="Make a model version of a task schema and a prompt, and print its id. Nothing goes live.",
        example="twinrail model register --name routing --schema ticket_routing --prompt ticket_routing",
        exit_codes="0 registered, or registered before; 1 it was retired; 2 schema, prompt, name or adapter "
        "cannot be used; 3 no database or engine",
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
    weights = register.add_mutually_exclusive_group()
    weights.add_argument(
        "--weights", choices=(BASE, TUNED), help="which of this release's weights (default: base)"
    )
    weights.add_argument(
        "--adapter",
        type=Path,
        metavar="DIR",
        help="your own adapter: adapter_model.safetensors, adapter_config.json and, if there is one, the "
        "manifest.json of its run; it is copied",
    )
    register.add_argument(
        "--force",
        action="store_true",
        help="let the version of an --adapter take traffic although no gate has passed it; needs --reason",
    )
    register.add_argument(
        "--revive", action="store_true", help="bring the version back if it was retired; needs --reason"
    )
    register.add_argument("--reason", default="", metavar="TEXT", help="kept with who forced or revived it")
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
    for line in _warnings(version, weights):
        context.out.note(line)
    # An operator's own adapter is a candidate: like one that was tuned here, it takes traffic when a gate has
    # passed it.
    wish = Wish(releasable=weights.adapter is None, force=args.force, revive=args.revive)
    if args.dry_run:
        known = await look_up(context.settings, context.home, version, weights.record)
        _require_served_name(version, weights, known)
        state = state_after(version.id, known, wish)
        context.out.note(
            f"would register {version.id} for {version.task} on the weights {weights.name}: {state.value}"
        )
        row = _row(version, weights, new=known is None, dry_run=True)
        context.out.result({**row, "state": state.value}, version.id)
        return 0
    async with database(context.settings, context.home) as url:
        await migrate(url, on_step=lambda name: context.out.note(f"migrated {name}"))
        async with pool(url, size=1) as connections:
            registry = ModelRegistry(connections)
            # Everything that may be refused, before anything is copied or written.
            known = await known_of(registry, version.id)
            state_after(version.id, known, wish)
            _require_served_name(version, weights, known)
            await registry.require_same_use(version, weights.record)
            if args.adapter and weights.adapter:
                form, on_step = settings.tuned_as, context.out.note
                await asyncio.to_thread(
                    take_in, args.adapter, weights.adapter, context.models, form=form, on_step=on_step
                )
            unfit = await unfit_turns(connections, version)
            registered = await _write(registry, version, weights, known, args)
    if unfit.unfit:
        context.out.note(unfit.told(version.task))
    before = Manifest.from_json(known.manifest) if known else None
    write_manifest(context.models.root, Manifest.from_json(registered.manifest), replaces=before)
    verb = "registered before:" if known else "registered"
    context.out.note(f"{verb} {version.id} for {version.task} on the weights {weights.name}")
    for line in _next_steps(registered):
        context.out.note(line)
    row = _row(version, weights, new=known is None, dry_run=False)
    told = {"state": registered.state.value, "turns": {"checked": unfit.checked, "unfit": unfit.unfit}}
    context.out.result({**row, **told}, version.id)
    return 0


async def _write(
    registry: ModelRegistry,
    version: ModelVersion,
    weights: Weights,
    known: RegisteredVersion | None,
    args: argparse.Namespace,
) -> RegisteredVersion:
    """Register what nobody has; of what is known, do what was asked for: revive it, force it."""
    by, reason = person(), args.reason.strip()
    if known is None:
        return await registry.register(
            version,
            manifest=weights.record,
            served_name=weights.served_name,
            releasable=weights.adapter is None,
            forced_because=reason if args.force else "",
            author=by,
        )
    registered = known
    if known.retired_at is not None:
        registered = await registry.revive(version.id, by=by, reason=reason)
    if args.force and not registered.releasable:
        registered = await registry.make_releasable(version.id, by=by, reason=reason, forced=True)
    return registered


def _require_served_name(version: ModelVersion, weights: Weights, known: RegisteredVersion | None) -> None:
    """A version that is there keeps the served name that it has."""
    wanted = weights.served_name or version.id
    if known is not None and known.served_name != wanted:
        raise UsageError(
            f"--served-name: {version.id} is registered as served by {known.served_name!r}, "
            f"not by {wanted!r}, and a version never changes; give another --name"
        )


# ---- what the version stands on ----------------------------------------------------------------------


async def _weights(args: argparse.Namespace, context: Context, settings: ServingSettings) -> Weights:
    if args.adapter and settings.engine_urls:
        raise UsageError(
            "--adapter: is for the engines that `twinrail up` starts, and SERVING_ENGINES names others; "
            "have those serve it and give --served-name, or unset SERVING_ENGINES"
        )
    if not settings.engine_urls:
        if args.served_name:
            raise UsageError(
                "--served-name: names what the engines of SERVING_ENGINES list, and that is not set; "
                "set it, or leave --served-name out: this machine's engines serve each version by its id"
            )
        if args.adapter:
            return own_adapter(args.adapter, context.models, form=settings.tuned_as)
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
    return Weights(
        base_digest=digest_of_name(name), adapter_digest=None, name=name, served_name=name, record=OUTSIDE
    )


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


# ---- checks: what would otherwise fail in front of a customer ----------------------------------------


def _file(flag: str, given: str, packaged: tuple[str, ...], folder: Path, suffix: str) -> Path:
    """The packaged file of that name, else the path itself."""
    path = folder / f"{given}{suffix}" if given in packaged else Path(given)
    if not path.is_file():
        raise UsageError(f"{flag}: {given} is no file; give a {suffix} file, or {' or '.join(packaged)}")
    return path


def _check_numbers(args: argparse.Namespace, settings: ServingSettings) -> None:
    if args.force and not (args.adapter and args.reason.strip()):
        lacks = "--reason: say why" if args.adapter else "--force: is for an --adapter"
        raise UsageError(f"{lacks}; any other version may take traffic once it is registered")
    if args.revive and not args.reason.strip():
        raise UsageError("--reason: say why the version comes back")
    if args.reason and not (args.force or args.revive):
        raise UsageError(
            "--reason: says why a version is forced or revived; leave it out, or give --force or --revive too"
        )
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
    validator, text = validator_of(version.schema), text_field(version.schema)
    for n, shot in enumerate(version.prompt.shots):
        read = parse_draft(shot.answer, validator=validator, field=text)
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


def _warnings(version: ModelVersion, weights: Weights) -> Iterator[str]:
    """Where the version asks for something else than its adapter was trained on."""
    now = identity_of(version)
    for name in ("prompt_sha256", "schema_sha256"):
        if weights.adapter and weights.record.get(name) not in (None, now[name]):
            what = name.removesuffix("_sha256")
            trained = weights.record.get(what) or "another"
            yield (
                f"warning: {name}: the adapter was trained with the {what} {trained}, in other words than "
                f"this version's; evaluate it before it goes live, or give --{what} as it was trained"
            )


def _next_steps(registered: RegisteredVersion) -> tuple[str, ...]:
    name = registered.id
    if registered.served_name != name:
        served = f"1. it is served already, as {registered.served_name}"
    else:
        served = f"1. have it served: `twinrail model stage {name}`"
    tried = f'2. try it alone: `twinrail ask "..." --model {name}`'
    if registered.state is VersionState.CANDIDATE:
        return served, tried, "3. it is a candidate, and takes no traffic before a gate has passed it"
    moves = f"`twinrail canary model {name} --percent 5`, or `twinrail model promote {name}`"
    return served, tried, f"3. let it live: {moves}"
