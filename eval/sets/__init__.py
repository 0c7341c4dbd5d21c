"""Question sets: imported, redacted, clustered, split, frozen, and drafted from documents."""
