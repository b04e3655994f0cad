"""What a client types, on its way to a process that may not be there yet."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from flynnhost.interfaces import IInput

EARLY_BYTES = 64 * 1024
"""What is taken before there is a process. Up to there it is read on, to notice a client that leaves."""


@define(eq=False)
class TypedInput:
    """Takes what is typed and hands it to an ``IInput`` once there is one.

    :param wanted: whether there will be one; if not, what is typed is dropped.
    """

    wanted: bool
    _input: IInput | None = field(init=False, default=None)
    _producer: Any = field(init=False, default=None)
    _early: list[bytes] = field(init=False, factory=list)
    _early_bytes: int = field(init=False, default=0)
    _ended: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IConsumer``: it is paused while the process takes no more, or there is none for too much."""
        self._producer = producer
        if self._input is not None:
            self._input.registerProducer(producer, streaming)
        else:
            self._check_early()

    def unregisterProducer(self) -> None:
        """See ``IConsumer``."""
        if self._producer is not None and self._input is not None:
            self._input.unregisterProducer()
        self._producer = None

    def write(self, data: bytes) -> None:
        """See ``IConsumer``."""
        if self._closed or self._ended or not self.wanted:
            return
        if self._input is None:
            self._early.append(data)
            self._early_bytes += len(data)
            self._check_early()
        else:
            self._input.write(data)

    def end(self) -> None:
        """Nothing more will be written."""
        if self._closed or self._ended:
            return
        self._ended = True
        if self._input is not None:
            self._input.end()

    def open(self, to: IInput) -> None:
        """The process is there: hand on what was typed."""
        if self._closed:
            return
        self._input = to
        early, self._early = self._early, []
        if self._producer is not None:
            self._producer.resumeProducing()
            to.registerProducer(self._producer, True)
        for data in early:
            to.write(data)
        if self._ended:
            to.end()

    def _check_early(self) -> None:
        if self._early_bytes >= EARLY_BYTES and self._producer is not None and not self._closed:
            self._producer.pauseProducing()

    def close(self) -> None:
        """Take nothing more. What is typed on is read, and dropped."""
        if self._closed:
            return
        self._closed = True
        self._early.clear()
        if self._producer is not None:
            if self._input is not None:
                self._input.unregisterProducer()
            self._producer.resumeProducing()
