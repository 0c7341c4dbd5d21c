"""Everything that can go wrong on the model rail.

ServingError
├── TaskSchemaError, PromptFileError, PromptBudgetError, ExampleError, WeightsError, WordingError,
│   UnknownRegionError, EntailmentError                                                         bad input
├── RegistryError: UnknownModelVersionError, NoStableVersionError, NotReleasableError, NothingToUndoError,
│                  WeightError, CanaryError, PointerMovedError, VersionConflictError, RegistryUnavailableError
├── AdapterError: AdapterNotFoundError, AdapterExistsError
└── EngineError: EngineUnavailableError (EngineStreamError), EngineTimeoutError, EngineRejectedError,
                   ModelNotServedError
"""

from __future__ import annotations

from typing import ClassVar


class ServingError(Exception):
    """The model rail failed."""

    #: Whether the same call may succeed when it is made again, unchanged.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


# ---- what a person gave us -----------------------------------------------------------------------


class TaskSchemaError(ServingError):
    """The task schema cannot be used."""


class PromptFileError(ServingError):
    """The prompt file cannot be used."""


class PromptBudgetError(ServingError):
    """The question alone is longer than the prompt may be."""


class ExampleError(ServingError):
    """A training example is unusable."""


class WeightsError(ServingError):
    """Model weights are missing or do not match."""


class WordingError(ServingError):
    """The file of fixed wordings cannot be used."""


class UnknownRegionError(ServingError):
    """A country whose phone numbers nobody knows."""


class EntailmentError(ServingError):
    """The entailment model cannot be used."""


# ---- registry and pointer ------------------------------------------------------------------------


class RegistryError(ServingError):
    """The registry of model versions refused."""


class UnknownModelVersionError(RegistryError):
    """No such model version is registered."""


class NoStableVersionError(RegistryError):
    """The model rail has no stable version yet: register one and promote it."""


class NotReleasableError(RegistryError):
    """The version is registered as not releasable, so it takes no traffic."""


class NothingToUndoError(RegistryError):
    """There is no earlier model version to go back to."""


class WeightError(RegistryError):
    """canary_weight_bp must be a whole number from 0 to 10000 (basis points)."""


class CanaryError(RegistryError):
    """The canary must be another version than stable."""


class PointerMovedError(RegistryError):
    """Somebody else moved the model pointer: read it again and decide again."""

    retryable = True


class VersionConflictError(RegistryError):
    """The same version id is registered with other content."""


class RegistryUnavailableError(RegistryError):
    """The database of the model rail does not answer."""

    retryable = True


# ---- adapters ------------------------------------------------------------------------------------


class AdapterError(ServingError):
    """The engine refused to load or unload an adapter."""


class AdapterNotFoundError(AdapterError):
    """The engine does not find the adapter."""


class AdapterExistsError(AdapterError):
    """The engine already serves something of that name; names are never reused."""


# ---- vLLM's wire ---------------------------------------------------------------------------------


class EngineError(ServingError):
    """An engine failed a request."""


class EngineUnavailableError(EngineError):
    """No engine can take the request now."""

    retryable = True

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineStreamError(EngineUnavailableError):
    """The engine's stream broke before its end."""


class EngineTimeoutError(EngineError):
    """The engine did not answer in time."""

    retryable = True

    def __init__(self, message: str | None = None, *, stage: str = "total") -> None:
        super().__init__(message)
        #: `first_token`, `idle` or `total`.
        self.stage = stage


class EngineRejectedError(EngineError):
    """The engine refused the request as malformed."""

    def __init__(self, message: str | None = None, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ModelNotServedError(EngineError):
    """No engine serves the model."""
