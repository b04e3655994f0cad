"""Whether there is room on the disks that matter."""

from __future__ import annotations

import os
from collections.abc import Iterator

from flynnhost import machine
from flynnhost.cli import words
from flynnhost.cli.checks.finding import Finding, failed, ok, warning
from flynnhost.cli.checks.subject import Subject, nearest_that_exists
from flynnhost.client.status import Disk

_GIB = 2**30

LITTLE = 2 * _GIB
"""Less room than this, and less than a tenth of the disk, is soon none."""

TOO_LITTLE = 100 * 2**20
"""With less room than this jobs are refused, or fail."""


def check_state_dir(subject: Subject) -> Iterator[Finding]:
    """The disk of what must outlive the host's process."""
    name, advice = (
        "state directory",
        "Free some, or give the host another --state-dir before it is first started.",
    )
    if subject.status is not None:
        yield room(name, subject.status.state_dir, advice)
    elif subject.here:
        path = subject.options.state_dir
        there = nearest_that_exists(path)
        yield room(name, Disk(**{**machine.disk(there), "path": path}), advice)  # type: ignore[arg-type]
        if os.access(there, os.R_OK) and not os.access(there, os.W_OK | os.X_OK):
            yield warning(
                name,
                f"{path} can't be written by you",
                "Start the host as root, or as the owner of its state directory.",
            )


def check_engine_disk(subject: Subject) -> Iterator[Finding]:
    """The disk of images and containers."""
    disk = subject.status.engine.disk if subject.status is not None else None
    if disk is not None:
        yield room(
            "engine disk", disk, "Remove what nobody needs: 'docker system df' and 'docker image prune' help."
        )


def room(name: str, disk: Disk, advice: str) -> Finding:
    """Whether there is room on a disk."""
    if disk.error or not disk.total_bytes:
        return warning(
            name, f"{disk.path} can't be looked at: {disk.error or 'nothing is known of it'}", advice
        )
    text = (
        f"{words.size(disk.free_bytes) or 'nothing'} of {words.size(disk.total_bytes)} is free at {disk.path}"
    )
    if disk.free_bytes < TOO_LITTLE:
        return failed(name, text, advice)
    if disk.free_bytes < min(LITTLE, disk.total_bytes / 10):
        return warning(name, text, advice)
    return ok(name, text)
