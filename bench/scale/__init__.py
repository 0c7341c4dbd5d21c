"""Parts of the scale benchmarks: a generated corpus, its way into the real tables, and the peer."""
