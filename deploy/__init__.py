"""The `twinrail` command, the one-machine stack, migrations and what operators deploy."""
