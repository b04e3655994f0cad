"""The agent: this host and its jobs."""
