"""`twinrail`: one command for the whole system. Runs one command, turns errors into one line and a code."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from deploy.commands import (
    asking,
    erasing,
    fields,
    fitting,
    jobs,
    keys,
    knowledge,
    models,
    programs,
    rails,
    stack,
    tune,
    tune_evaluate,
    versions,
)
from deploy.commands.context import CommandLine, Context, OneLineParser
from deploy.errors import DeployError, GateRefusedError, PortTakenError, UsageError
from deploy.home import Home
from deploy.output import Output
from deploy.settings import DeploySettings, load
from eval.settings import EvalSettings
from gateway.errors import (
    AccessError,
    GatewayError,
    NotFoundError,
    RecordsGuardError,
    RequestError,
    SettingsError,
)
from retrieval import errors as knowledge_errors
from serving import errors as model_errors

DONE, REFUSED, USAGE, DEPENDENCY, THIN = 0, 1, 2, 3, 4
EXIT_CODES = (
    "exit codes: 0 done, 1 gate refused, 2 bad usage or settings, 3 dependency down, 4 not enough evidence"
)

#: By class, nearest class of the MRO first; what is not listed below its root is a dependency that failed.
CODES: dict[type[BaseException], int] = {
    DeployError: DEPENDENCY,
    UsageError: USAGE,
    PortTakenError: USAGE,
    GateRefusedError: REFUSED,
    GatewayError: DEPENDENCY,
    RequestError: USAGE,
    AccessError: USAGE,
    NotFoundError: USAGE,
    SettingsError: USAGE,
    RecordsGuardError: USAGE,
    knowledge_errors.RetrievalError: USAGE,
    knowledge_errors.MassRemovalError: REFUSED,
    knowledge_errors.TooFewPairsError: THIN,
    knowledge_errors.NothingToUndoError: REFUSED,
    knowledge_errors.NothingLeftError: REFUSED,
    knowledge_errors.VersionInReachError: REFUSED,
    knowledge_errors.BuildRunningError: REFUSED,
    knowledge_errors.CanaryError: REFUSED,
    knowledge_errors.JobStateError: REFUSED,
    knowledge_errors.EmbeddingError: DEPENDENCY,
    knowledge_errors.StoreError: DEPENDENCY,
    knowledge_errors.StoreRoleError: USAGE,
    knowledge_errors.RetrievalTimeoutError: DEPENDENCY,
    model_errors.ServingError: USAGE,
    model_errors.NotTrainableError: REFUSED,
    model_errors.DatasetLeakError: REFUSED,
    model_errors.DatasetTooSmallError: THIN,
    model_errors.RegistryError: REFUSED,
    model_errors.RegistryUnavailableError: DEPENDENCY,
    model_errors.UnknownModelVersionError: USAGE,
    model_errors.EngineError: DEPENDENCY,
}
#: What the system says of a folder that is another's, read-only, or none.
UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
#: Commands that are another package's program; everything after them is that program's own command line.
PROGRAMS = {
    "serve": "Run the gateway in this process.",
    "eval": "Measure a running gateway (`eval run --help`).",
    "advise": "Say what to fix, from the labels of a run (`advise --help`).",
    "pilot": "A guided week from real questions to a decision (`pilot --help`).",
}
#: Evaluation's own commands, found where versions and tuning are: they go over HTTP as all of it does.
COMPARE = "compare"
EVALUATIONS: dict[tuple[str, ...], str] = {
    ("knowledge", COMPARE): "versions",
    ("tune", tune_evaluate.EVALUATE): tune_evaluate.PROGRAM,
}


def main(argv: Sequence[str] | None = None, out: Output | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    out = out or Output()
    try:
        if arguments and arguments[0] in PROGRAMS:
            return _forward(arguments[0], arguments[1:])
        if (program := EVALUATIONS.get(tuple(arguments[:2]))) is not None:
            return _forward("eval", [program, *arguments[2:]])
        args = _parser().parse_args(arguments)
        out = Output(args.json, out.stdout, out.stderr)
        settings = load(DeploySettings)
        context = Context(settings=settings, home=Home(settings.home), out=out)
        code: int = asyncio.run(args.handler(args, context))
        return code
    except (DeployError, GatewayError, knowledge_errors.RetrievalError, model_errors.ServingError) as exc:
        out.note(f"twinrail: {_line(exc)}")
        return next(CODES[cls] for cls in type(exc).__mro__ if cls in CODES)
    except BrokenPipeError:
        # The reader (`head`, say) has enough. Nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as exc:
        if exc.errno in UNUSABLE:
            out.note(
                f"twinrail: {variable_of(exc)}cannot use {exc.filename or 'a file'} ({exc.strerror}); "
                "choose a folder that this user may read and write"
            )
            return USAGE
        if exc.errno != errno.ENOSPC:
            raise
        out.note(
            f"twinrail: {variable_of(exc)}no space left ({exc.filename or 'disk'}); free some or move it"
        )
        return DEPENDENCY
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def entry() -> None:
    """The installed command."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    sys.exit(main())


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="twinrail",
        description="A support assistant on two rails, cited knowledge and a tuned model, each versioned.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = CommandLine(parser)
    for group in (stack, asking, knowledge, rails, models, tune, jobs, keys, programs):
        group.add(commands)
    versioned = commands.group("knowledge", "The index versions of the knowledge rail.")
    versions.add(versioned)
    fitting.add(versioned)
    fields.add(versioned)
    rails.add_knowledge(versioned)
    erasing.add(versioned)
    versioned.forwarded(COMPARE, "Compare two index versions on questions (`knowledge compare --help`).")
    for name, summary in PROGRAMS.items():
        commands.forwarded(name, summary)
    return parser


def _forward(name: str, arguments: list[str]) -> int:
    """Hand the rest of the command line to another package's program."""
    if name == "serve":
        from gateway.cli import main as serve

        code: int = serve(arguments)
        return code
    from eval.cli import main as evaluate

    ours = arguments if name == "eval" else [name, *arguments]
    return evaluate(ours, settings=eval_settings())


def eval_settings() -> EvalSettings:
    """Evaluation's settings; what the environment leaves open comes from this machine's stack."""
    ours, given = load(DeploySettings), load(EvalSettings)
    home = Home(ours.home)
    keys, state = home.keys(), home.state()
    known: dict[str, str | SecretStr | Path] = {}
    if "runs" not in given.model_fields_set:
        known["runs"] = home.runs
    if "gateway_url" not in given.model_fields_set and state:
        known["gateway_url"] = state.gateway_url
    for field, key in (("api_key", "eval"), ("staff_api_key", "eval_staff")):
        if getattr(given, field) is None and key in keys:
            known[field] = SecretStr(keys[key])
    return given.model_copy(update=known)


def variable_of(error: OSError) -> str:
    """`NAME: ` of the variable whose folder holds the file; empty when no variable named it."""
    try:
        settings = load(DeploySettings)
    except UsageError:
        return ""
    path = Path(error.filename).absolute() if isinstance(error.filename, str) else settings.home
    for name, folder in (("TWINRAIL_MODELS", settings.models), ("TWINRAIL_HOME", settings.home)):
        if folder and (path.is_relative_to(folder) or folder.is_relative_to(path)):
            return f"{name}: "
    return ""


def _line(error: Exception) -> str:
    """The error in one line, with its fix when it carries one apart."""
    text = " ".join(str(error).split())
    field, fix = getattr(error, "field", None), getattr(error, "fix", None)
    if field and not text.startswith(f"{field}:"):
        text = f"{field}: {text}"
    if fix and str(fix) not in text:
        text = f"{text.rstrip('.')}; {fix}"
    return text
