"""The first index version of a rail: what it is, and how it comes to take traffic."""

from __future__ import annotations

from retrieval.building import finish
from retrieval.embedding import Embedder
from retrieval.minilm import NAME as MINILM
from retrieval.rewriting import LastTurns
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion, VersionState


async def settle(store: KnowledgeStore) -> None:
    """What follows a publish, and may be done again: the first version of a rail becomes ready and stable.

    Every other version is filled, and becomes ready, by `retrieval.building.build`.
    """
    versions = [each for each in await store.versions() if each.state is not VersionState.RETIRED]
    if all(version.state is VersionState.BUILDING for version in versions):
        for version in versions:
            await finish(store, version.id)
    # Asked each time: a run may have died after the version became ready.
    if versions:
        await store.promote_first(versions[0].id)


def first_version(embedder: Embedder) -> KnowledgeVersion:
    """The index version of an empty rail. Weight and threshold come from bench/retrieval_quality.py.

    The threshold was measured with the packaged MiniLM. Cosines of another model mean something else, so with
    one nothing is refused until somebody has measured it.
    """
    threshold = 0.1 if embedder.id.startswith(MINILM) else 0.0
    return KnowledgeVersion.make(
        name="start",
        embedder=embedder.id,
        dims=embedder.dims,
        abstain_below=threshold,
        # Finds more in both sets of conversations (bench/retrieval_rewriting.py), for microseconds.
        rewriter=LastTurns.id,
    )
