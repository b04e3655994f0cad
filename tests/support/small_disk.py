"""Disks that are soon full, or can't be written: a real one for root, and one that anybody can have.

Each is there within a ``with`` only, so that a test's runner can write its report when the test has ended.
"""

from __future__ import annotations

import os
import resource
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Self

MEGABYTE = 1024 * 1024


class SmallDisk(Protocol):
    """A disk of one megabyte.

    :ivar folder: where it is.
    :ivar complaint: what a program says of a write for which there is no space, as a pattern.
    """

    folder: Path
    complaint: str

    def __init__(self, folder: Path) -> None: ...

    def fill(self) -> None:
        """Leave no space."""

    def make_room(self) -> None:
        """End ``fill``."""

    def grow(self) -> None:
        """Be larger than the test needs."""

    def make_read_only(self) -> None:
        """Let nothing be written."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""


class MountedDisk:
    """A file system of its own, for root only."""

    complaint = "full"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        self.folder.mkdir()
        _run("mount", "-t", "tmpfs", "-o", "size=1m", "none", self.folder)
        return self

    def fill(self) -> None:
        """See ``SmallDisk``."""
        filler = os.open(self.folder / "filler", os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while True:
                os.write(filler, b"x" * 4096)
        os.close(filler)

    def make_room(self) -> None:
        """See ``SmallDisk``."""
        (self.folder / "filler").unlink()

    def grow(self) -> None:
        """See ``SmallDisk``."""
        _run("mount", "-o", "remount,size=8m", self.folder)

    def make_read_only(self) -> None:
        """See ``SmallDisk``."""
        _run("mount", "-o", "remount,ro", self.folder)

    def __exit__(self, *_: object) -> None:
        _run("umount", "-l", self.folder)


class LimitedDisk:
    """A folder in which this process may write no long files. It can't be made read-only for root."""

    complaint = "disk I/O error"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self._limit(MEGABYTE)
        return self

    def fill(self) -> None:
        """See ``SmallDisk``."""
        self._limit(0)

    def make_room(self) -> None:
        """See ``SmallDisk``."""
        self._limit(MEGABYTE)

    def grow(self) -> None:
        """See ``SmallDisk``."""
        self._limit(8 * MEGABYTE)

    def make_read_only(self) -> None:
        """See ``SmallDisk``."""
        for path in (*self.folder.iterdir(), self.folder):
            path.chmod(0o500)

    def __exit__(self, *_: object) -> None:
        self.folder.chmod(0o700)
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)

    def _limit(self, size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._before[1]))


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)
