"""What is told of failures: one line, which says what to do next. Never a traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import click
from attrs import frozen

from flynnhost.cli.exit_codes import ExitCode, ended_by, exit_code_of
from flynnhost.client import errors
from flynnhost.client.address import VARIABLE

TRACEBACKS = "FLYNN_HOST_TRACEBACK"
"""The environment variable that shows where an unexpected failure comes from."""

_PROGRAM = "flynn-host"
_SIGPIPE = 13
_CANT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class NobodyReads(Exception):
    """What stdout goes to was closed. Click has its own idea of ``BrokenPipeError``."""


@frozen
class CommandFailed(Exception):
    """A command can't do what it was asked to.

    :param message: what is wrong and what to do next, in one line; empty to say nothing.
    """

    message: str
    code: int = ExitCode.FAILED

    def __str__(self) -> str:
        return self.message


def say(message: str) -> None:
    """Tell something on stderr."""
    click.echo(f"{_PROGRAM}: {message}", err=True)


def exit_code_from(work: Callable[[], object]) -> int:
    """The code with which the program is to exit after this work; what went wrong is told.

    :param work: gives its exit code, or anything else for success.
    """
    try:
        given = work()
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        e.show()
        return e.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, NobodyReads):
        _drop_output()
        return ended_by(_SIGPIPE)
    except CommandFailed as e:
        if e.message:
            say(e.message)
        return e.code
    except errors.ClientError as e:
        say(explained(e))
        return exit_code_of(e)
    except Exception as e:
        return _of_the_system(e)
    return given if isinstance(given, int) and not isinstance(given, bool) else ExitCode.DONE


def explained(error: errors.ClientError) -> str:
    """An error with what to do next."""
    text = " ".join(str(error).split())
    hint = _hint(error)
    return f"{text}. {hint}" if hint else text


_LISTS = {
    "job_id": "'flynn-host ps -a' lists the jobs of a host.",
    "host_id": "'flynn-host list' lists the hosts.",
    "attribute": "'flynn-host attributes get' lists those that it has.",
}
"""What to look at when something is not there, by what it is."""


def _hint(error: errors.ClientError) -> str:
    match error:
        case errors.HostUnreachable():
            return f"Is the host running? Another one can be named with --host-url or {VARIABLE}."
        case errors.NoAnswer() | errors.Unknown():
            return "It may have been done all the same: look, then try again."
        case errors.BadAnswer():
            return f"Is it another program that listens there? See --host-url and {VARIABLE}."
        case errors.Unavailable(code="no_leader"):
            return "Try again in some seconds; 'flynn-host leader' shows who leads."
        case errors.Unavailable():
            return "Try again in some seconds; 'flynn-host doctor' shows what is missing."
        case errors.NotFound(code="object_not_found"):
            return next((hint for about, hint in _LISTS.items() if about in error.detail), "")
        case errors.NotFound():
            return "Is that host of an older version?"
        case errors.Failure() if error.incident:
            return f"The host's log tells more: look for {error.incident}."
    return ""


def _of_the_system(error: Exception) -> int:
    match error:
        case UnicodeEncodeError():
            say("what is typed, and what is taken from the environment, is to be UTF-8")
            return ExitCode.USAGE
        case OSError() if error.errno in _CANT_WRITE:
            say(f"the output can't be written: {error.strerror}")
            _drop_output()
            return ExitCode.FAILED
    return _unexpected(error)


def _unexpected(error: Exception) -> int:
    if os.environ.get(TRACEBACKS):
        import traceback

        traceback.print_exc()
    say(
        f"this should not happen: {type(error).__name__}: {' '.join(str(error).split())}. "
        f"{TRACEBACKS}=1 shows where it comes from."
    )
    return ExitCode.FAILED


def _drop_output() -> None:
    """Let nothing more be written to a pipe that nobody reads, not even when the program ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        try:
            os.dup2(nowhere, number)
        except OSError:  # it is closed altogether
            continue
    os.close(nowhere)
