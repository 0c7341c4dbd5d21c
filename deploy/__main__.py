from deploy.cli import entry

entry()
