"""People and programs at a job's standard streams."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer


@frozen
class AttachQuery:
    """What is wanted of a job's streams.

    :param logs: what was written so far.
    :param stream: what is written from now on, and the exit status.
    :param wait: for a job that is not known yet, within bounds; else that is an error at once.
    :param height: lines of the client's terminal, 0 if it has none, like the columns in ``width``.
    """

    job_id: str
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    stream: bool = False
    wait: bool = True
    height: int = 0
    width: int = 0


class IAttachClient(Protocol):
    """Who is attached. Called in this order: ``waiting`` once or not, ``attached``, output and the ends
    of streams, then one of ``exited``, ``finished`` and ``failed``, which is the last; ``failed`` can
    come at any time. It tells the ``IAttachment`` to pause when it takes no more.
    """

    def waiting(self) -> None:
        """The job is not there yet."""

    def attached(self) -> None:
        """All that was asked for is connected."""

    def output_received(self, stream: int, data: bytes) -> None:
        """The job wrote something: 1 for stdout, 2 for stderr; always 1 with a TTY."""

    def stream_ended(self, stream: int) -> None:
        """Nothing more will come of this stream."""

    def exited(self, status: int) -> None:
        """The process has ended, and all of its output was passed on."""

    def finished(self) -> None:
        """All that was asked for was passed on."""

    def failed(self, reason: str) -> None:
        """It can't be had, or not to its end; for people."""


class IAttachment(IConsumer):
    """The job's side of somebody attached. Nothing here fails: what goes wrong is told by ``failed``.

    As an ``IConsumer`` it takes what is typed, and pauses the push producer registered with it while
    the process takes no more. As a producer it gives output.
    """

    def pauseProducing() -> None:
        """The client takes nothing for now. What comes is kept, within bounds."""

    def resumeProducing() -> None:
        """The client takes more."""

    def end_input() -> None:
        """Nothing more will be written: the process reads the end of its input."""

    def signal(number: int) -> None:
        """Send the process a signal."""

    def resize(height: int, width: int) -> None:
        """The client's terminal has this size now."""

    def detach() -> None:
        """The client is gone: it is told nothing more, and all it used is freed. May be called again."""

    def when_freed() -> Deferred[None]:
        """A Deferred of your own that fires when all it used is freed; never fails."""
