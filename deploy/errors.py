"""What can go wrong while Twinrail's processes and database are set up."""

from __future__ import annotations


class DeployError(Exception):
    """Setting up failed."""

    retryable = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class PostgresStartError(DeployError):
    """PostgreSQL did not start."""


class PortTakenError(DeployError):
    """The port is used by another process."""


class DiskFullError(DeployError):
    """There is not enough space on the disk."""


class MigrationError(DeployError):
    """A migration failed; everything it did was taken back."""


class MigrationChangedError(MigrationError):
    """A migration that this database has already run was changed afterwards."""


class DatabaseUnavailableError(DeployError):
    """The database does not answer."""

    retryable = True


class UsageError(DeployError):
    """The command line or a setting is wrong."""


class GateRefusedError(DeployError):
    """The system was asked for something that its state does not allow."""


class AlreadyRunningError(DeployError):
    """A stack already runs on this data folder."""


class GatewayUnreachableError(DeployError):
    """No gateway answers."""

    retryable = True


class GatewayFailedError(DeployError):
    """The gateway or something behind it failed."""

    retryable = True


class ProcessDiedError(DeployError):
    """A process of the stack ended before it was ready."""
