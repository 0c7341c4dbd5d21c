"""Where checks of sentences run: a model takes a core for milliseconds, words and values next to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


async def checked(work: Callable[[], _Result], *, slow: bool) -> _Result:
    """What `work` gives; in a thread where it is slow, so that it holds up no other answer."""
    return await asyncio.to_thread(work) if slow else work()
