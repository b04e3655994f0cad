"""Docker behind the container interface."""
