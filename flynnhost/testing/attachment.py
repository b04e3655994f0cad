"""Somebody attached to a job that exists in a test only."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from flynnhost.interfaces import AttachQuery, ExecSpec, IAttachClient, IAttachment


@implementer(IAttachment)
@define(eq=False)
class FakeAttachment:
    """Somebody attached, or who runs a command: the test plays the job, by calling ``client``.

    :ivar calls: what the client did, in order: the names of the methods, with their arguments.
    :ivar typed: what it typed.
    :ivar producer: what types, to be paused.
    """

    client: IAttachClient
    query: AttachQuery | None = None
    job_id: str = ""
    spec: ExecSpec | None = None
    calls: list[tuple[Any, ...]] = field(factory=list)
    typed: bytes = b""
    producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IConsumer``."""
        del streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        """See ``IConsumer``."""
        self.producer = None

    def write(self, data: bytes) -> None:
        """See ``IConsumer``."""
        self.typed += data

    def pauseProducing(self) -> None:
        """See ``IAttachment``."""
        self.calls.append(("pause",))

    def resumeProducing(self) -> None:
        """See ``IAttachment``."""
        self.calls.append(("resume",))

    def end_input(self) -> None:
        """See ``IAttachment``."""
        self.calls.append(("end_input",))

    def signal(self, number: int) -> None:
        """See ``IAttachment``."""
        self.calls.append(("signal", number))

    def resize(self, height: int, width: int) -> None:
        """See ``IAttachment``."""
        self.calls.append(("resize", height, width))

    def detach(self) -> None:
        """See ``IAttachment``."""
        self.calls.append(("detach",))

    def when_freed(self) -> Deferred[None]:
        """See ``IAttachment``; nothing is used here."""
        return succeed(None)
