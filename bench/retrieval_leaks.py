"""Whether anybody ever sees what they may not: random readers against a model of who may see what.

    python -m bench.retrieval_leaks [--cases 10000] [--seed 1] [--fillers 2200]

Tenants share document ids, principal names and words, so that only row-level security keeps them apart. Between the cases
documents are published, given other readers, taken back, erased. A case asks as a random reader (known principals, other
tenants' ones, none) in a random way: search by both legs or one, live, at a snapshot or at a moment, with filters or
without; the characters of citations; citations resolved; and every table without saying who asks. The model is a few
dicts in Python. A leak is anything seen that the model does not allow; a miss is anything not seen that it does, where
all of it fits in the answer, and otherwise an answer that is not full: without that, an empty answer would pass. Beside
the documents that change, each tenant has fillers that only one of the principals may read: they are more than a search
compares one by one, so that searches go through the vector index (if none does, the run fails), and whoever may not read
them has thousands of forbidden rows about. Each change of readers is also looked at from
within its own transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from psycopg import sql

from bench.fresh_rail import WordVectors, fresh_rail
from bench.machine import describe_machine
from retrieval.connections import Connection, Pool, row_of
from retrieval.documents import Access, TextSpan
from retrieval.errors import NothingToUndoError
from retrieval.filters import FilterValue, filter_tree
from retrieval.ingest import apply
from retrieval.ingest_report import Changes, IngestReport
from retrieval.parsing import ParsedDocument, parse_row
from retrieval.store import QUERIES, KnowledgeStore, Legs

OUT = Path(__file__).with_name("results") / "retrieval_leaks.json"
TENANTS = ("acme", "acme2", "globex")
NAMES = ("public", "staff", "team-a", "team-b", "boss")
#: Who reads the fillers, and nothing else.
ARCHIVIST = "archivist"
PRODUCTS = ("sync", "drive", "mail")
DOCUMENTS = tuple(f"doc-{number}" for number in range(24))
LEGS: tuple[Legs, ...] = ("both", "dense", "lexical")
#: More than there are documents: without fillers, what may be seen fits in one answer.
K = 60
#: Words of the fillers.
WEATHER = ("fog", "hail", "thunder", "drizzle", "frost", "breeze", "sunshine")
#: Cases between two changes.
STEADY = 12


@dataclass(frozen=True)
class Text:
    """A version of a document; its words name tenant, document and version, so that an answer tells on itself."""

    tenant: str
    document: str
    number: int
    product: str

    @property
    def body(self) -> str:
        return f"price of {self.product} for {self.tenant} in {self.document} edition {self.number}"


@dataclass(frozen=True)
class Filler(Text):
    """One that no question has a word of: only the dense leg finds it."""

    @property
    def body(self) -> str:
        return f"{self.document} {WEATHER[self.number % len(WEATHER)]} kept by {self.tenant} archive"


@dataclass
class Tenant:
    """What a tenant's rail should be."""

    name: str
    history: dict[int, dict[str, Text]] = field(default_factory=lambda: {0: {}})
    head: int = 0
    previous: int | None = None
    readers: dict[str, frozenset[str]] = field(default_factory=dict)
    texts: dict[str, list[Text]] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    moments: list[tuple[datetime, int]] = field(default_factory=list)

    def may_see(self, document: str, principals: Sequence[str]) -> bool:
        return document not in self.erased and bool(self.readers.get(document, frozenset()) & set(principals))

    def visible(self, snapshot: int, principals: Sequence[str], products: Sequence[str]) -> set[str]:
        """The texts that these eyes see at a snapshot."""
        return {
            text.body
            for document, text in self.history[snapshot].items()
            if self.may_see(document, principals) and text.product in products
        }


@dataclass
class Tally:
    """What was asked, and what came of it."""

    cases: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)
    #: How each search went about its dense leg.
    modes: Counter[str] = field(default_factory=Counter)
    #: Rows that were rightly seen: the cases were not all empty.
    seen: int = 0
    hidden: int = 0

    def compare(
        self, what: str, seen: set[str], allowed: set[str], hidden: int, room: int | None = None
    ) -> None:
        """Count one case. `room`: how much fits in an answer."""
        self.cases[what] += 1
        self.seen += len(seen & allowed)
        self.hidden += hidden
        self.leaks += [f"{what}: {text}" for text in sorted(seen - allowed)]
        if room is None or len(allowed) <= room:
            self.misses += [f"{what}: {text}" for text in sorted(allowed - seen)]
        elif len(seen) < room:
            self.misses.append(f"{what}: {len(seen)} of {room} rows, and {len(allowed)} may be seen")


class Trial:
    """One run: a rail, its model, and random changes and questions on both."""

    def __init__(self, pool: Pool, seed: int, fillers: int) -> None:
        self._pool = pool
        self._fillers = fillers
        self._store = KnowledgeStore(pool)
        self._embedder = WordVectors()
        self._random = random.Random(seed)
        self._tenants = {name: Tenant(name) for name in TENANTS}
        self.tally = Tally()

    async def run(self, cases: int) -> Tally:
        """All of it; stops when enough has been asked."""
        for tenant in self._tenants.values():
            await self._fill(tenant)
            await self._publish(tenant, DOCUMENTS)
        while self.tally.cases.total() < cases:
            await self._change()
            for _ in range(min(STEADY, cases - self.tally.cases.total())):
                await self._ask()
        return self.tally

    # ---- changes -------------------------------------------------------------------------------------------

    async def _change(self) -> None:
        tenant = self._random.choice(list(self._tenants.values()))
        kind = self._random.choices(
            ("publish", "readers", "undo", "erase"), weights=(6, 8, 3, 1 if len(tenant.erased) < 12 else 0)
        )[0]
        self.tally.changes[kind] += 1
        if kind == "publish":
            await self._publish(tenant, self._random.sample(DOCUMENTS, self._random.randint(1, 4)))
        elif kind == "readers":
            await self._change_readers(tenant)
        elif kind == "undo":
            await self._undo(tenant)
        else:
            document = self._random.choice(sorted(tenant.texts.keys() - tenant.erased))
            await self._store.purge(tenant.name, document, by="bench")
            tenant.erased.add(document)
        async with self._pool.connection() as conn:
            (now,) = await row_of(conn, _NOW, {})
        tenant.moments.append((now, tenant.head))

    async def _fill(self, tenant: Tenant) -> None:
        """What stays as it is all along; an undo goes no further back."""
        fillers = [
            Filler(tenant.name, f"filler-{lettered(number)}", 1, self._random.choice(PRODUCTS))
            for number in range(self._fillers)
        ]
        for filler in fillers:
            tenant.readers[filler.document] = frozenset({ARCHIVIST})
        await self._apply(tenant, [self._parsed(tenant, filler) for filler in fillers], ())
        tenant.head = 1
        tenant.history[1] = {filler.document: filler for filler in fillers}

    async def _publish(self, tenant: Tenant, documents: Sequence[str]) -> None:
        """New texts for some documents, and now and then some that go."""
        wanted = [each for each in documents if each not in tenant.erased]
        gone = [each for each in wanted[2:] if each in tenant.history[tenant.head]] if tenant.head > 1 else []
        new = [
            Text(tenant.name, each, len(tenant.texts.get(each, ())) + 1, self._random.choice(PRODUCTS))
            for each in wanted
            if each not in gone
        ]
        for text in new:
            tenant.texts.setdefault(text.document, []).append(text)
            tenant.readers[text.document] = self._some_readers()
        await self._apply(tenant, [self._parsed(tenant, text) for text in new], gone)
        if new or gone:
            content = {key: value for key, value in tenant.history[tenant.head].items() if key not in gone}
            content |= {text.document: text for text in new}
            tenant.previous, tenant.head = tenant.head, max(tenant.history) + 1
            tenant.history[tenant.head] = content

    async def _change_readers(self, tenant: Tenant) -> None:
        """Also looked at from within: in the transaction that revokes, nobody sees it any more."""
        head = tenant.history[tenant.head]
        live = {key: head[key] for key in DOCUMENTS if key in head and key not in tenant.erased}
        if not live:
            return
        text = live[self._random.choice(sorted(live))]
        tenant.readers[text.document] = self._some_readers()
        principals = self._some_principals()

        async def within(conn: Connection, _report: IngestReport) -> None:
            allowed = tenant.may_see(text.document, principals)
            params = {
                "tenant": tenant.name,
                "principals": list(principals),
                "documents": [text.document],
                "numbers": [text.number],
                "starts": [0],
                "lengths": [len(text.body)],
            }
            (found,) = await row_of(conn, QUERIES["text_spans"], params)
            chunks = await (await conn.execute(_CHUNKS, {"document": text.document})).fetchall()
            seen = {each for each in found if each} | ({text.body} if chunks else set())
            self.tally.compare(
                "change of readers, within its transaction",
                seen,
                {text.body} if allowed else set(),
                hidden=not allowed,
            )

        await self._apply(tenant, [self._parsed(tenant, text)], (), within)

    async def _undo(self, tenant: Tenant) -> None:
        try:
            await self._store.undo(tenant.name, "publish")
        except NothingToUndoError:
            return
        assert tenant.previous is not None
        tenant.head, tenant.previous = tenant.previous, tenant.head

    async def _apply(
        self,
        tenant: Tenant,
        upserts: Sequence[ParsedDocument],
        deletes: Sequence[str],
        within: object = None,
    ) -> None:
        report = await apply(
            self._store,
            [self._embedder],
            Changes(upserts=tuple(upserts), deletes=tuple(deletes)),
            tenant=tenant.name,
            source="bench",
            on_publish=within,  # type: ignore[arg-type]  # the function above, or None
        )
        if report.failures:
            raise RuntimeError(f"{tenant.name}: {report.failures[0]}")

    def _parsed(self, tenant: Tenant, text: Text) -> ParsedDocument:
        row = {
            "id": text.document,
            "title": text.document,
            "text": text.body,
            "product": text.product,
            "principals": sorted(tenant.readers[text.document]),
        }
        return parse_row("bench", row)

    # ---- questions -----------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        kind = self._random.choices(("search", "text_spans", "resolve", "nobody"), weights=(16, 4, 3, 1))[0]
        if kind == "nobody":
            await self._ask_as_nobody()
            return
        tenant = self._random.choice(list(self._tenants.values()))
        access = Access(tenant=tenant.name, principals=self._some_principals())
        if kind == "search":
            await self._search(tenant, access)
        else:
            await self._read(tenant, access, kind)

    async def _search(self, tenant: Tenant, access: Access) -> None:
        snapshot, as_of = tenant.head, None
        when = self._random.choice(("live", "snapshot", "moment"))
        if when == "snapshot":
            snapshot = as_of = self._random.choice(list(tenant.history))
        elif when == "moment" and tenant.moments:
            as_of, snapshot = self._random.choice(tenant.moments)
        products, filters = self._some_filter()
        legs = self._random.choice(LEGS)
        question = f"price of sync drive mail for {' '.join(TENANTS)} in {self._random.choice(DOCUMENTS)}"
        found = await self._store.search(
            access,
            version=(await self._store.pointer()).stable,
            question=question,
            embedding=await self._embedder.embed_query(question),
            k=K,
            filters=filter_tree(filters) if filters else None,
            as_of=as_of,
            timeout_s=60.0,
            legs=legs,
        )
        self.tally.modes[found.mode.partition("+")[0]] += 1
        allowed = tenant.visible(snapshot, access.principals, products)
        if legs == "lexical":
            allowed = {body for body in allowed if not body.startswith("filler-")}
        hidden = len(tenant.history[snapshot]) - len(allowed)
        what = f"search, {legs}, {when}{', filtered' if filters else ''}"
        self.tally.compare(what, {hit.text for hit in found.hits}, allowed, hidden, room=K)

    async def _read(self, tenant: Tenant, access: Access, kind: str) -> None:
        """Texts of this tenant's and of other tenants' documents, by their numbers: any version ever."""
        asked = [
            self._random.choice(texts)
            for other in self._tenants.values()
            for texts in self._random.sample(
                sorted(other.texts.values(), key=lambda each: each[0].document), 4
            )
        ]
        spans = [TextSpan(text.document, text.number, 0, 200) for text in asked]
        if kind == "text_spans":
            seen = {text for text in await self._store.text_spans(access, spans) if text}
        else:
            seen = {each.text for each in await self._store.resolve(access, spans) if each.text}
        # Other tenants' ids are also this one's: what may come back is its own text of that number.
        allowed = {
            own.body
            for text in asked
            for own in tenant.texts.get(text.document, ())
            if own.number == text.number and tenant.may_see(own.document, access.principals)
        }
        self.tally.compare(kind, seen, allowed, hidden=len(asked) - len(allowed))

    async def _ask_as_nobody(self) -> None:
        """Every table, by who has not said who asks, or says half of it."""
        settings = self._random.choice(
            ((), (("retrieval.tenant", ""),), (("retrieval.principals", "{1,2,3,4,5}"),),
             (("retrieval.tenant", "nobody"), ("retrieval.principals", "{1,2,3,4,5}")))
        )  # fmt: skip
        seen: set[str] = set()
        async with self._pool.connection() as conn, conn.transaction(force_rollback=True):
            for name, value in settings:
                await conn.execute(_SET, {"name": name, "value": value})
            for (table,) in await (await conn.execute(_TABLES)).fetchall():
                query = sql.SQL("SELECT count(*) FROM retrieval.{}").format(sql.Identifier(table))
                row = await (await conn.execute(query)).fetchone()
                if row is None or row[0]:
                    seen.add(table)
        self.tally.compare("every table, as nobody", seen, set(), hidden=1)

    # ---- chance --------------------------------------------------------------------------------------------

    def _some_readers(self) -> frozenset[str]:
        return frozenset(self._random.sample(NAMES, self._random.randint(1, 2)))

    def _some_principals(self) -> tuple[str, ...]:
        """Mostly known ones; also none at all, and a name that nobody has."""
        known = self._random.sample(NAMES, self._random.randint(0, 3))
        odd = [
            name for name, share in (("no-such-team", 0.2), (ARCHIVIST, 0.4)) if self._random.random() < share
        ]
        return (*known, *odd)

    def _some_filter(self) -> tuple[Sequence[str], dict[str, FilterValue]]:
        """The products that it lets through, and the filter."""
        one, other = self._random.sample(PRODUCTS, 2)
        kinds: list[tuple[Sequence[str], dict[str, FilterValue]]] = [
            (PRODUCTS, {}),
            ((one,), {"product": one}),
            ((one, other), {"product": {"$in": [one, other]}}),
            ((one, other), {"$or": [{"product": one}, {"product": {"$eq": other}}]}),
            ([each for each in PRODUCTS if each != one], {"$not": {"product": one}}),
        ]
        return self._random.choice(kinds)


def lettered(number: int) -> str:
    """A number without digits, which documents have in their names."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


_NOW = "SELECT clock_timestamp()"
_CHUNKS = "SELECT 1 FROM retrieval.chunk WHERE document_id = %(document)s"
_SET = "SELECT set_config(%(name)s, %(value)s, true)"
_TABLES = """
    SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant'
    WHERE c.relnamespace = 'retrieval'::regnamespace AND c.relkind IN ('r', 'p')"""


async def measure(cases: int, seed: int, fillers: int) -> Tally:
    """One trial on a rail of its own."""
    async with fresh_rail(durable=False) as pool:
        await KnowledgeStore(pool).check()
        return await Trial(pool, seed, fillers).run(cases)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, write the result; exit code 1 if anything leaked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--fillers", type=int, default=2_200, help="documents of a tenant that stay as they are"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    machine = describe_machine()
    tally = asyncio.run(measure(args.cases, args.seed, args.fillers))
    for what, count in sorted(tally.cases.items()):
        print(f"{count:7d}  {what}")
    changes = ", ".join(f"{count} x {what}" for what, count in sorted(tally.changes.items()))
    print(f"{tally.cases.total():7d}  cases between {tally.changes.total()} changes ({changes})")
    print(f"{tally.seen:7d}  texts rightly seen, {tally.hidden} rightly not")
    print(f"{len(tally.leaks):7d}  leaks, {len(tally.misses)} misses")
    for each in (*tally.leaks[:10], *tally.misses[:10]):
        print(f"         {each}")
    print(f"searches by their dense leg: {dict(tally.modes)}")
    if not tally.modes["index"]:
        print("no search went through the vector index: give more --fillers")
    result = {
        "machine": machine,
        "seed": args.seed,
        "fillers": args.fillers,
        "modes": dict(tally.modes),
        "cases": dict(tally.cases),
        "changes": dict(tally.changes),
        "seen": tally.seen,
        "hidden": tally.hidden,
        "leaks": tally.leaks,
        "misses": tally.misses,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if tally.leaks or tally.misses or not tally.modes["index"] else 0


if __name__ == "__main__":
    sys.exit(main())
