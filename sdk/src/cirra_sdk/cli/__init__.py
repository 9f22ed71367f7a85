"""The `cirra` command. Modules here load quickly: what talks to the cloud is imported when a command runs."""
