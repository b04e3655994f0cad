"""A client at the streams of a job, for tests in memory."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from flynnhost.interfaces import IAttachment


@define(eq=False, slots=False)
class Client:
    """An ``IAttachClient`` that remembers, and checks the order in which it is called."""

    told: list[tuple[Any, ...]] = field(factory=list)
    attachment: IAttachment | None = None
    pause_at_output: bool = False

    def _hear(self, *what: Any) -> None:
        assert not self.told or self.told[-1][0] not in ("exited", "finished", "failed"), (self.told, what)
        self.told.append(what)

    def waiting(self) -> None:
        assert self.told == []
        self._hear("waiting")

    def attached(self) -> None:
        assert self.told in ([], [("waiting",)])
        self._hear("attached")

    def output_received(self, stream: int, data: bytes) -> None:
        assert ("attached",) in self.told
        self._hear("output", stream, data)
        if self.pause_at_output and self.attachment is not None:
            self.attachment.pauseProducing()

    def stream_ended(self, stream: int) -> None:
        assert ("attached",) in self.told
        self._hear("end", stream)

    def exited(self, status: int) -> None:
        assert ("attached",) in self.told
        self._hear("exited", status)

    def finished(self) -> None:
        assert ("attached",) in self.told
        self._hear("finished")

    def failed(self, reason: str) -> None:
        assert reason
        self._hear("failed", reason)

    def of(self, stream: int) -> bytes:
        return b"".join(each[2] for each in self.told if each[0] == "output" and each[1] == stream)

    @property
    def last(self) -> Any:
        return self.told[-1] if self.told else ()

    @property
    def there(self) -> IAttachment:
        assert self.attachment is not None
        return self.attachment
