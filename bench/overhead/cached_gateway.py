"""The gateway with retrieval off: as `twinrail serve` runs it, but each question is searched for once and remembered.

Keys, limits, prompting, checks, citations from the stored documents, turn recording and tracing stay as they are; what is
gone is the embedding and the SQL search. With BENCH_PROFILE set, the process writes a cProfile of its event loop there when it
ends.
"""

from __future__ import annotations

import cProfile
import os

from gateway import cli
from gateway.rails import Searcher
from retrieval.hits import SearchRequest, SearchResult


class RememberingSearcher:
    """Gives the result of the first search for a question again and again."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._results: dict[tuple[str, str], SearchResult] = {}

    async def search(self, request: SearchRequest, *, arm: str | None = None) -> SearchResult:
        """The result of this version for this question."""
        key = (request.version, request.question)
        if key not in self._results:
            self._results[key] = await self._searcher.search(request, arm=arm)
        return self._results[key]


def main() -> int:
    """Settings come from the environment, as for the gateway itself."""
    target = os.environ.get("BENCH_PROFILE")
    if not target:
        return cli.main([], around_search=RememberingSearcher)
    profile = cProfile.Profile()

    def profiled(searcher: Searcher) -> Searcher:
        profile.enable()  # here, so that most of the start is not in it
        return RememberingSearcher(searcher)

    try:
        return cli.main([], around_search=profiled)
    finally:
        profile.disable()
        profile.dump_stats(target)


if __name__ == "__main__":
    raise SystemExit(main())
