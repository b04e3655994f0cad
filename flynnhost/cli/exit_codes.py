"""The codes with which commands exit, in one table; docs/cli.md tells them to users."""

from __future__ import annotations

import enum

from flynnhost.client import errors


class ExitCode(enum.IntEnum):
    """What a command exits with, unless it is a job's own code."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    CONFLICT = 5
    NOT_NOW = 6
    NOT_STARTED = 125
    NOT_EXECUTABLE = 126
    NO_SUCH_PROGRAM = 127
    INTERRUPTED = 130


SIGNALLED = 128
"""What is added to the number of the signal that has ended a command."""

_TABLE: dict[type[BaseException], ExitCode] = {
    errors.BadAddress: ExitCode.USAGE,
    errors.HostUnreachable: ExitCode.UNREACHABLE,
    errors.NoAnswer: ExitCode.UNREACHABLE,
    errors.BadAnswer: ExitCode.UNREACHABLE,
    errors.BrokenOff: ExitCode.UNREACHABLE,
    errors.NotFound: ExitCode.NOT_FOUND,
    errors.Gone: ExitCode.NOT_FOUND,
    errors.Conflict: ExitCode.CONFLICT,
    errors.Unavailable: ExitCode.NOT_NOW,
    errors.Unknown: ExitCode.NOT_NOW,
}


def exit_code_of(error: BaseException) -> ExitCode:
    """The code for an error of the client."""
    return next((_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE), ExitCode.FAILED)


def job_exit_code(status: int) -> int:
    """The code for the exit status of a job, which is -1 when it was lost with its container."""
    return status & 0xFF if status >= 0 else int(ExitCode.FAILED)


def ended_by(signal: int) -> int:
    """The code of a command that a signal has ended."""
    return SIGNALLED + signal
