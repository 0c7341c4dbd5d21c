"""What every command gets, and how a command is declared."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import aiohttp

from deploy.errors import UsageError
from deploy.gateway_api import GatewayApi
from deploy.home import Home
from deploy.models import ModelFolders
from deploy.output import Output
from deploy.settings import DeploySettings, load
from gateway.settings import GatewaySettings

#: Who may ask: the keys that `twinrail up` makes, by name.
KEY_NAMES = ("customer", "staff", "eval", "eval_staff", "admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Settings and output of one run of the command line."""

    settings: DeploySettings
    home: Home
    out: Output

    @property
    def models(self) -> ModelFolders:
        """Where prepared models lie."""
        return ModelFolders(self.settings.models or self.home.models)

    def gateway_url(self) -> str:
        """TWINRAIL_URL, else the stack of this home, else where a gateway listens by default."""
        if self.settings.url:
            return self.settings.url
        state = self.home.state()
        if state:
            return state.gateway_url
        gateway = load(GatewaySettings)
        return f"http://{gateway.host}:{gateway.port}"

    def key(self, name: str) -> str:
        """TWINRAIL_API_KEY, else the key of that name that `up` made."""
        if self.settings.api_key:
            return self.settings.api_key.get_secret_value()
        try:
            return self.home.keys()[name]
        except KeyError:
            raise UsageError(
                f"TWINRAIL_API_KEY: not set, and {self.home.keys_file} holds no {name!r} key; "
                "run `twinrail up` first or set TWINRAIL_API_KEY"
            ) from None

    @asynccontextmanager
    async def gateway(self, key_name: str | None, *, timeout_s: float = 120.0) -> AsyncIterator[GatewayApi]:
        """The gateway, called with one of the keys (with none for what is open to all)."""
        key = self.key(key_name) if key_name else None
        async with aiohttp.ClientSession() as session:
            yield GatewayApi(session, url=self.gateway_url(), key=key, timeout_s=timeout_s)


def person() -> str:
    """Who is at the keyboard, as far as the machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"


Handler = Callable[[argparse.Namespace, Context], Awaitable[int]]


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line, as every other mistake is said."""

    def error(self, message: str) -> NoReturn:
        """Exit code 2."""
        fault = message.removeprefix("argument ").removeprefix("the following arguments are ")
        self.exit(2, f"twinrail: {fault}; see `{self.prog} --help`\n")


class CommandLine:
    """Adds commands to a parser so that all of them look alike."""

    def __init__(self, parser: argparse.ArgumentParser, *, title: str = "commands") -> None:
        self._commands = parser.add_subparsers(title=title, metavar="COMMAND", required=True)

    def group(self, name: str, summary: str) -> CommandLine:
        """A command that only has sub-commands."""
        return CommandLine(self._commands.add_parser(name, help=summary, description=summary))

    def command(
        self, name: str, handler: Handler, *, summary: str, example: str, exit_codes: str = ""
    ) -> argparse.ArgumentParser:
        """A command with its example; add its own arguments to what is returned."""
        parser = self._commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  {example}" + (f"\n\nexit codes:\n  {exit_codes}" if exit_codes else ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--json", action="store_true", help="print JSON on stdout")
        parser.set_defaults(handler=handler)
        return parser

    def forwarded(self, name: str, summary: str) -> None:
        """List another package's program in the help; `deploy.cli` hands its command line over unparsed."""
        self._commands.add_parser(name, help=summary, add_help=False)
