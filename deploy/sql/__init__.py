"""SQL that sets up a database before any package owns a schema in it."""
