"""Containers that exist in memory only, and what their processes do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall

from flynnhost.interfaces import ContainerSpec, ContainerState, ContainerSummary, LogQuery
from flynnhost.testing.container_input import FakeInput
from flynnhost.testing.container_live import FakeLiveStream
from flynnhost.testing.container_output import FakeLogStream, FakeOutput, Piece


@frozen
class Program:
    """What a container's process does when nobody intervenes.

    :param output: the lines it writes at once when it starts, each with its stream.
    :param keeps: how many entries of its output are kept, as many as fit if None.
    :param exits_after: seconds from its start to its end; 0 ends it before the start is
        answered; None lets it run.
    :param on_signal: the exit code for each signal that ends it.
    :param refused: why the engine can't start it; empty if it can.
    :param reads_input: it writes what it reads, and ends at the end of its input, which is at once
        if it has none. That it has an end at all needs a process without TTY.
    """

    output: tuple[Piece, ...] = ()
    keeps: int | None = None
    exits_after: float | None = None
    exit_code: int = 0
    oom_killed: bool = False
    on_signal: Mapping[int, int] = field(factory=lambda: {1: 129, 2: 130, 9: 137, 15: 143})
    refused: str = ""
    reads_input: bool = False


@define(eq=False)
class FakeContainer:
    """A container in memory.

    :ivar starts: how often its process was started.
    :ivar inputs: the ways to its input that are open.
    :ivar input: what its process has read.
    :ivar eof: whether its process has read the end of its input.
    :ivar size: lines and columns of its TTY.
    """

    id: str
    spec: ContainerSpec
    number: int
    running: bool = False
    starts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    program: Program = field(factory=Program)
    output: FakeOutput = field(factory=FakeOutput)
    readers: list[FakeLogStream] = field(factory=list)
    listeners: list[FakeLiveStream] = field(factory=list)
    exit_timer: IDelayedCall | None = None
    inputs: list[FakeInput] = field(factory=list)
    input: bytes = b""
    eof: bool = False
    size: tuple[int, int] = (0, 0)
    on_eof: Callable[[], None] = field(default=lambda: None)
    now: Callable[[], datetime] = field(default=lambda: datetime.fromtimestamp(0, UTC))
    _unread: bytes = b""
    _no_more: bool = False

    def state(self) -> ContainerState:
        """What an inspect says."""
        return ContainerState(
            id=self.id,
            name=self.spec.name,
            labels=self.spec.labels,
            running=self.running,
            started_at=self.started_at,
            finished_at=self.finished_at,
            exit_code=self.exit_code,
            oom_killed=self.oom_killed,
            error=self.error,
            internal_ip=self._internal_ip(),
            pid=1000 + self.number if self.running else 0,
        )

    def summary(self) -> ContainerSummary:
        """What a listing says."""
        return ContainerSummary(self.id, self.spec.name, self.spec.labels, self.running)

    def has_labels(self, labels: Mapping[str, str]) -> bool:
        """Whether it has all these labels."""
        return labels.items() <= self.spec.labels.items()

    def began(self, program: Program, now: datetime) -> None:
        """Its process was started."""
        self.program = program
        self.running = True
        self.starts += 1
        self.started_at, self.finished_at = now, None
        self.exit_code, self.oom_killed, self.error = 0, False, ""
        self.output.keeps = program.keeps
        for piece in program.output:
            self.wrote(piece, now)

    def ended(self, code: int, oom_killed: bool, now: datetime) -> None:
        """Its process ended."""
        if self.exit_timer is not None and self.exit_timer.active():
            self.exit_timer.cancel()
        self.exit_timer = None
        self.running = False
        self.finished_at = now
        self.exit_code, self.oom_killed = code, oom_killed
        self.close_readers()
        self.close_inputs()

    def wrote(self, piece: Piece, now: datetime) -> None:
        """Its process wrote lines, or a part of one."""
        if self.spec.tty:
            piece = (1, piece[1])
        if self.spec.keep_output:
            self.output.wrote(piece, now)
        for reader in list(self.readers):
            reader.flush()
        for listener in list(self.listeners):
            listener.written(piece)

    def read(self, reader: FakeLogStream, query: LogQuery) -> None:
        """Pass the output on to a reader."""
        if query.follow and self.running:
            self.readers.append(reader)
        else:
            reader.over()

    def attach(self, listener: FakeLiveStream) -> None:
        """Pass on to a listener what is written from now on."""
        self.listeners.append(listener)

    def take_input(self) -> None:
        """Let the process that has just started read what came before."""
        unread, self._unread = self._unread, b""
        if unread:
            self.input_received(unread)
        if self._no_more or not self.spec.stdin:
            self.input_ended()

    def input_received(self, data: bytes) -> None:
        """See ``ReadsInput``."""
        if self.running and self.spec.stdin:
            self.input += data
            if self.program.reads_input:
                self.wrote((1, data), self.now())
        elif not self.starts:
            self._unread += data

    def input_ended(self) -> None:
        """See ``ReadsInput``."""
        if self.spec.tty:
            return
        if not self.starts:
            self._no_more = True
        elif self.running and not self.eof:
            self.eof = True
            if self.program.reads_input:
                self.on_eof()

    def close_inputs(self) -> None:
        """End all ways to its input."""
        inputs, self.inputs = self.inputs, []
        for each in inputs:
            each.lost()

    def close_readers(self, error: Exception | None = None) -> None:
        """End all transfers of its output."""
        readers, self.readers = self.readers, []
        for reader in readers:
            reader.over(error)
        listeners, self.listeners = self.listeners, []
        for listener in listeners:
            listener.over()

    def _internal_ip(self) -> str:
        if not self.running or self.spec.host_network:
            return ""
        return f"172.17.{self.number // 250 % 250}.{self.number % 250 + 2}"
