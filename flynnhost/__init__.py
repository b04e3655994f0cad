"""flynn-host: the host service of a Flynn cluster."""

__version__ = "0.1.0"
