"""The commands of `twinrail`, one module per group; `deploy.cli` puts them together."""
