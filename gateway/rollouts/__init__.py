"""Which arm of each rail a conversation gets."""
