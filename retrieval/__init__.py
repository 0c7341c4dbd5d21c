"""The knowledge rail: parse, chunk, embed, store, search; versions and snapshots of what is known."""
