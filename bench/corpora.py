"""A generated corpus in the real schema, for measurements and for work on the search function.

    python -m bench.corpora --chunks 50000            # load (or reuse), say what it weighs, keep the server running
    python -m bench.corpora --chunks 50000 --stop     # stop that server
    python -m bench.corpora --check                   # how like real vectors the generated ones are; no database

From Python, for one's own measurements (the server is the caller's to stop):

    seeds = load_seeds(home, data=..., demo=..., embedder=OnnxEmbedder(home / "minilm"), count=SEEDS)
    postgres, loaded = open_database(home, seeds, Shape(chunks=50_000))
    store = KnowledgeStore(pool)                      # pool on loaded.url
    embedder = GivenVectors(loaded.embedder, seeds.questions, seeds.question_vectors)
    Retriever(store=store, embedders={embedder.id: embedder}) ...
        # version=loaded.version, access=everybody(tenant_name(0)), question=one of seeds.questions

Chunks are vectors near real MiniLM ones with sentences of the real chunks, over 200 tenants from 32 % down to 0.05 %
(`--tenants 1` for one that has everything); see bench/scale/corpus.py and vectors.py. A corpus is loaded once and kept
under HOME/scale; the search function of the working tree replaces the one that it was loaded with, so that a change of
0002_search.sql is measured at the next call. When the tables that it fills change, it is loaded anew.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.scale.corpus import Shape
from bench.scale.database import folder_of, open_database, sizes
from bench.scale.likeness import compare_with_real
from bench.scale.seeds import Seeds, load_seeds
from deploy.postgres import EmbeddedPostgres
from retrieval.embedding import OnnxEmbedder, prepare_minilm

REPOSITORY = Path(__file__).parent.parent
#: Real chunks that everything is made of.
SEEDS = 10_000


def main(argv: Sequence[str] | None = None) -> int:
    """Load a corpus, or compare generated vectors with real ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_places(parser)
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--tenants", type=int, default=200)
    parser.add_argument("--stop", action="store_true", help="stop the server of this corpus")
    parser.add_argument("--check", action="store_true", help="compare generated vectors with real ones")
    args = parser.parse_args(argv)
    seeds = seeds_of(args)
    if args.check:
        compare_with_real(args.home, seeds)
        return 0
    shape = Shape(chunks=args.chunks, tenants=args.tenants)
    if args.stop:
        EmbeddedPostgres(folder_of(args.home, seeds, shape)).stop()
        return 0
    began = time.perf_counter()
    _, loaded = open_database(args.home, seeds, shape)
    print(
        f"ready after {time.perf_counter() - began:.0f} s (loading took {sum(loaded.seconds.values()):.0f} s)"
    )
    for name, size in sizes(loaded).items():
        print(f"  {name:32} {size / 2**20:10.1f} MB")
    print(f"version {loaded.version}; partition retrieval.{loaded.partition}")
    print(f"url {loaded.url}\nadmin {loaded.admin_url}")
    print(f"the server goes on; `python -m bench.corpora --chunks {args.chunks} --stop` ends it")
    return 0


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where benchmarks keep what they make, and where real data is."""
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".twinrail/bench")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="real chunks that the corpus is made of")


def seeds_of(args: argparse.Namespace) -> Seeds:
    """The seeds that the arguments of `add_places` name. From here on, a SIGTERM ends servers in order, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    prepare_minilm(args.home / "minilm")
    embedder = OnnxEmbedder(args.home / "minilm")
    return load_seeds(
        args.home, data=args.data, demo=REPOSITORY / "deploy/demo", embedder=embedder, count=args.seeds
    )


if __name__ == "__main__":
    sys.exit(main())
