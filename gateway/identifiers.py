"""Ids that the gateway mints. Time-ordered where they become primary keys, random where they must not be
guessed."""

from __future__ import annotations

import os
import secrets
import time
from uuid import UUID


def new_turn_id() -> UUID:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, then 74 random bits, so that turns sort by time."""
    millis = time.time_ns() // 1_000_000
    value = (millis & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76  # version 7
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant 10
    return UUID(int=value)


def new_conversation_id() -> str:
    """An id for a caller who sent none; it is returned, so that the next question gets the same arms."""
    return f"c-{secrets.token_hex(12)}"


def new_trace_id() -> str:
    """A trace id for the case that no tracing is set up: every answer and every problem carries one."""
    return secrets.token_hex(16)
