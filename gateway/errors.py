"""What can go wrong in the gateway.

    GatewayError
    ├── RequestError               the caller must change the request (carries `field` and `fix`)
    │   ├── InvalidFieldError      422
    │   ├── MalformedBodyError     400
    │   ├── UnsupportedParameterError 400
    │   ├── ContentTypeError       415
    │   └── BodyTooLargeError      413
    ├── AccessError
    │   ├── UnauthenticatedError   401
    │   └── ForbiddenError         403
    ├── NotFoundError              404
    ├── ConflictError              409
    │   ├── NotServedError
    │   └── GateRefusedError
    ├── BusyError                  429, carries `retry_after_s`
    │   ├── OverloadedError
    │   └── RateLimitedError
    ├── RecordsUnavailableError    503
    ├── RecordsGuardError          the process does not start
    └── DeadlineError              504

HTTP codes are given in `problems.py` only.
"""

from __future__ import annotations


class GatewayError(Exception):
    """The gateway could not do this."""

    retryable = False
    #: Where the caller has to look, as a path into the request (`pin.model`, `header authorization`).
    field: str | None = None
    #: What the caller has to do about it.
    fix: str | None = None

    def __init__(
        self,
        message: str | None = None,
        *,
        field: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message or self.__doc__)
        self.field = field if field is not None else type(self).field
        self.fix = fix if fix is not None else type(self).fix


class RequestError(GatewayError):
    """The request cannot be understood."""


class InvalidFieldError(RequestError):
    """A field of the request holds something that is not accepted."""


class MalformedBodyError(RequestError):
    """The body is not JSON."""

    field = "body"
    fix = "Send one JSON object, encoded as UTF-8."


class UnsupportedParameterError(RequestError):
    """A parameter is known but not supported here."""


class ContentTypeError(RequestError):
    """The body has a content type that is not accepted."""

    field = "header content-type"
    fix = "Send `content-type: application/json`."


class BodyTooLargeError(RequestError):
    """The body is larger than the gateway accepts."""

    field = "body"


class AccessError(GatewayError):
    """The key does not allow this."""


class UnauthenticatedError(AccessError):
    """There is no valid API key on the request."""

    field = "header authorization"
    fix = "Send `Authorization: Bearer tw_...` (or `x-api-key`) with a key made by `twinrail keys create`."


class ForbiddenError(AccessError):
    """The key lacks a scope."""


class NotFoundError(GatewayError):
    """There is no such thing, or not for this key."""


class ConflictError(GatewayError):
    """The state of the system does not allow this now."""


class NotServedError(ConflictError):
    """No engine serves a version that is to take traffic."""


class GateRefusedError(ConflictError):
    """A gate has refused the version that is to take traffic."""

    field = "version"
    fix = (
        "Mend what its report names and run the gate again, or send `force: true` (`--force`), which is kept."
    )


class BusyError(GatewayError):
    """Too much is going on; come back later."""

    retryable = True

    def __init__(self, message: str | None = None, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, fix=f"Wait {max(1, round(retry_after_s))} s, then send the request again.")
        self.retry_after_s = retry_after_s


class OverloadedError(BusyError):
    """All places are taken and the queue is full."""


class RateLimitedError(BusyError):
    """This key sends more requests than its limit."""


class RecordsUnavailableError(GatewayError):
    """The gateway's records (keys, turns, feedback) cannot be reached."""

    retryable = True
    fix = "Try again shortly; an operator should check PostgreSQL (`twinrail status`)."


class RecordsGuardError(GatewayError):
    """A table of the gateway does not keep tenants apart."""

    field = "DATABASE_URL"
    fix = "Force row-level security and restore the policies as gateway/sql/migrations makes them."


class DeadlineError(GatewayError):
    """The answer was not ready within the deadline."""

    retryable = True


class SettingsError(GatewayError):
    """A setting is missing or wrong; the process cannot start."""


class DependencyDownError(GatewayError):
    """Something that the gateway needs at start cannot be reached."""

    retryable = True
