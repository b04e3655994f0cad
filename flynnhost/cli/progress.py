"""Shows on a terminal that something goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flynnhost.cli.context import is_terminal


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Show on stderr what goes on, if that is a terminal; with it goes a function that changes the text."""
    if not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    # Output that is written meanwhile goes where it is meant to go, and not through rich.
    with console.status(Text(text)) as status:
        yield lambda text: status.update(Text(text))
