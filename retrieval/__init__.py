"""The knowledge rail: parse, chunk, embed, store and search documents; versions and snapshots of what is known."""
