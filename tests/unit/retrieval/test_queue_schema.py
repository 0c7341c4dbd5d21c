"""The queue's tables are those of the installed procrastinate: if it changes them, we need a migration."""

from __future__ import annotations

from importlib.resources import files

from procrastinate.schema import SchemaManager


def test_the_copied_schema_is_the_librarys() -> None:
    migration = files("retrieval.sql").joinpath("migrations", "0005_queue.sql").read_text(encoding="utf-8")
    copied = migration.partition("-- procrastinate >>>\n")[2].partition("-- <<< procrastinate\n")[0]
    assert copied == SchemaManager.get_schema()
