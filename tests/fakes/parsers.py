"""One pool of reading processes for all tests of a session: starting one takes longer than most tests.

For tests that read documents on the way to something else. Those of reading itself start their own.
"""

from __future__ import annotations

import atexit
from functools import cache

from retrieval.parsing_process import ParsingPool


@cache
def shared_parsers() -> ParsingPool:
    """The pool, made with the first document and closed with the session."""
    pool = ParsingPool()
    atexit.register(pool.close)
    return pool
