"""A job's output, with the stream that each piece is of."""

from __future__ import annotations

from collections import deque

from attrs import define, field

from flynnhost.client.byte_stream import ByteStream
from flynnhost.client.errors import BadAnswer, BrokenOff
from flynnhost.docker_frames import STDERR, STDOUT, BadFrame, FrameDecoder

__all__ = ["STDERR", "STDOUT", "LogStream"]


@define(eq=False)
class LogStream:
    """The output of a job: ``async for stream, data in log``, ``STDOUT`` or ``STDERR`` with some bytes.

    :param url: whose output it is, for errors.
    """

    _stream: ByteStream
    _url: str
    _decoder: FrameDecoder = field(init=False, factory=FrameDecoder)
    _waiting: deque[tuple[int, bytes]] = field(init=False, factory=deque)

    def __aiter__(self) -> LogStream:
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        """The next bytes.

        :raises BrokenOff: when there is more that did not come.
        """
        while not self._waiting:
            data = await self._stream.read()
            if not data:
                self._check_end()
                raise StopAsyncIteration
            try:
                self._waiting.extend(self._decoder.feed(data))
            except BadFrame as e:
                raise BadAnswer(self._url, str(e)) from e
        return self._waiting.popleft()

    def close(self) -> None:
        """Read no more. May be called again."""
        self._waiting.clear()
        self._stream.close()

    def _check_end(self) -> None:
        if not self._decoder.between_frames:
            raise BrokenOff(f"the output at {self._url} broke off")
