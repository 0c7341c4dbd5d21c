"""The Grafana board and the script that builds it."""
