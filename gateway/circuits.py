"""The circuits of model versions, with what operators see of them."""

from __future__ import annotations

import logging
from typing import Final

from gateway import instruments as names
from serving.circuit import CircuitLimits, Circuits, CircuitState, Outcome

logger = logging.getLogger(__name__)

_SHOWN: Final = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


def open_circuits(*, open_s: float) -> Circuits:
    """Circuits that log and count what becomes of them; with 0 they never open."""
    return Circuits(CircuitLimits(open_s=open_s), on_change=_tell)


def _tell(version_id: str, state: CircuitState, cause: Outcome | None) -> None:
    names.circuit.set(_SHOWN[state], {names.MODEL_VERSION: version_id})
    if cause is None:
        return
    if state is CircuitState.OPEN:
        names.circuit_openings.add(1, {names.MODEL_VERSION: version_id, names.REASON: cause.value})
    logger.log(
        logging.WARNING if state is CircuitState.OPEN else logging.INFO,
        "circuit of a model version changed",
        extra={
            "action": "circuit_changed",
            "version": version_id,
            "state": state.value,
            "cause": cause.value,
        },
    )
