"""Where the command flynn-host begins."""

from __future__ import annotations

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command, which takes a moment to be imported: Ctrl-C may come then too."""
    try:
        from flynnhost.cli.main import main as program
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    program()
