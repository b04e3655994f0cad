"""What all programs here do alike."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn


def tell(what: str) -> None:
    """Say what is being done, to whoever watches."""
    print(f"==> {what}", file=sys.stderr, flush=True)


def end_when_told() -> None:
    """Have SIGTERM end the program as an error would, so that everything is cleared away."""
    signal.signal(signal.SIGTERM, _end)


def conditions() -> dict[str, str]:
    """On what this runs, as it is before the first measurement."""
    return {
        "machine": f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}",
        "load": f"{os.getloadavg()[0]:.1f} before; the figures of a machine that is busy say little",
    }


@contextmanager
def workplace(below: Path | None) -> Iterator[tuple[Path, ExitStack]]:
    """A new directory, and what is to be undone before it is removed, whatever happens.

    :param below: where to make the directory, if not where temporary files are.
    """
    directory = Path(tempfile.mkdtemp(prefix="flynn-bench-", dir=below))
    try:
        with ExitStack() as undo:
            undo.callback(tell, "clearing away")
            yield directory, undo
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def publish(text: str, everything: Any, report: Path | None, json_file: Path | None) -> None:
    """Show what was found out.

    :param report: where the text is written, too, if anywhere.
    :param json_file: where everything is written as JSON, if anywhere.
    """
    print(text)
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(text)
    if json_file:
        json_file.write_text(json.dumps(everything, indent=1))


def _end(*_: object) -> NoReturn:
    sys.exit(1)
