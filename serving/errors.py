"""Everything that can go wrong on the model rail.

ServingError
├── TaskSchemaError, PromptFileError, PromptBudgetError, ExampleError, WordingError,
│   UnknownRegionError, EntailmentError, ManifestError, NotTrainableError, DatasetTooSmallError,
│   DatasetLeakError                                                                            bad input
├── WeightsError: AdapterFileError
├── TrainingError: RecipeError, CheckpointError, TrainingStoppedError, VerdictError
├── RegistryError: UnknownModelVersionError, NoStableVersionError, NotReleasableError, VersionRetiredError,
│                  VersionInReachError, NothingToUndoError, WeightError, CanaryError, PointerMovedError,
│                  VersionConflictError, VersionUnreadableError, RegistryUnavailableError
├── AdapterError: AdapterNotFoundError, AdapterExistsError
└── EngineError: EngineUnavailableError (EngineStreamError, NoEngineError), EngineTimeoutError,
                 EngineRejectedError, ModelNotServedError
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


class NotTrainableError(ServingError):
    """Training does not mend the failure that the dataset is for."""


class DatasetTooSmallError(ServingError):
    """Too few rows, or too much alike, to train on and to judge by."""


class DatasetLeakError(ServingError):
    """Rows that are trained on give away what judges."""


class WeightsError(ServingError):
    """Model weights are missing or do not match."""


class AdapterFileError(WeightsError):
    """The adapter's files cannot be used."""


class ManifestError(ServingError):
    """The manifest of a model version does not hold."""


class TrainingError(ServingError):
    """The model cannot be trained."""


class RecipeError(TrainingError):
    """The recipe of a training run cannot be used."""


class CheckpointError(TrainingError):
    """A checkpoint of a training run cannot be written."""


class TrainingStoppedError(TrainingError):
    """A person or the machine stopped the training; it can go on."""

    retryable: ClassVar[bool] = True


class VerdictError(TrainingError):
    """No verdict lets the version take traffic."""


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
    """The version is a candidate: no gate has passed it, so it takes no traffic."""


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


class VersionUnreadableError(RegistryError):
    """What the registry holds of the version cannot be read."""


class VersionRetiredError(RegistryError):
    """The version is retired, so it takes no part any more."""


class VersionInReachError(RegistryError):
    """Traffic can reach the version, now or by an undo, so it is not retired."""


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


class NoEngineError(EngineUnavailableError):
    """No engine that serves the model answers; the pool knows it without asking."""


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
