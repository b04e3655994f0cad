"""The flynn-host command as a process, at a terminal or between pipes."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from typing import Any

from attrs import define, field

from flynnhost.client.address import HostAddress
from tests.support.host_process import environment

_PROGRAM = "from flynnhost.cli.main import main; main()"


@define(eq=False)
class TypedCommand:
    """A command that was typed. End it after use.

    :param terminal: whether its streams are a terminal; else they are pipes, or what is given.
    :ivar lines: of the terminal, as of ``columns``.
    """

    args: tuple[str, ...]
    address: HostAddress
    terminal: bool = False
    lines: int = 24
    columns: int = 80
    stdin: Any = subprocess.DEVNULL
    env: dict[str, str] = field(factory=dict)
    _process: subprocess.Popen[bytes] = field(init=False)
    _ours: int = field(init=False, default=-1)
    _theirs: int = field(init=False, default=-1)
    _out: bytes = field(init=False, default=b"")
    _err: bytes = field(init=False, default=b"")

    def __attrs_post_init__(self) -> None:
        env = {**environment(), "FLYNN_HOST_URL": self.address.url, "TERM": "xterm", **self.env}
        command = [sys.executable, "-c", _PROGRAM, *self.args]
        if self.terminal:
            self._ours, self._theirs = pty.openpty()
            self.resize(self.lines, self.columns)
            self._process = subprocess.Popen(
                [sys.executable, "-c", _AT_TERMINAL, *command],
                stdin=self._theirs,
                stdout=self._theirs,
                stderr=self._theirs,
                env=env,
                start_new_session=True,
            )
            os.set_blocking(self._ours, False)
        else:
            self._process = subprocess.Popen(
                command, stdin=self.stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
            )
            for stream in (self._process.stdout, self._process.stderr):
                assert stream is not None
                os.set_blocking(stream.fileno(), False)

    @property
    def out(self) -> bytes:
        """What it wrote so far: to stdout, or to its terminal."""
        if self.terminal:
            self._out += _available(self._ours)
        elif self._process.stdout is not None:
            self._out += _available(self._process.stdout.fileno())
        return self._out

    @property
    def unread(self) -> int:
        """How many bytes wait in the pipe of its stdout."""
        assert self._process.stdout is not None, "it has no pipe"
        waiting = fcntl.ioctl(self._process.stdout, termios.FIONREAD, b"\0" * 4)
        return int.from_bytes(waiting, sys.byteorder)

    @property
    def err(self) -> bytes:
        """What it wrote to stderr so far, which is no terminal."""
        if self._process.stderr is not None:
            self._err += _available(self._process.stderr.fileno())
        return self._err

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.poll()

    @property
    def ended(self) -> bool:
        """Whether it has ended. What it writes is read meanwhile, or it could not end."""
        _ = (self.out, self.err)
        return self._process.poll() is not None

    @property
    def settings(self) -> list[Any]:
        """How its terminal is set."""
        return termios.tcgetattr(self._theirs)

    def type(self, data: bytes) -> None:
        """Type this, or send it to its stdin."""
        if self.terminal:
            os.write(self._ours, data)
        else:
            assert self._process.stdin is not None
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def end_input(self) -> None:
        """Close its stdin, which is a pipe."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close_output(self) -> None:
        """Read no more of what it writes."""
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.stdout = None

    def resize(self, lines: int, columns: int) -> None:
        """Its terminal has this size now."""
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> None:
        """End it, however it is."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        if self.terminal:
            os.close(self._ours)
            os.close(self._theirs)


_AT_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def _available(fd: int) -> bytes:
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(fd, 1 << 16)
        except (BlockingIOError, OSError):
            break
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces)
