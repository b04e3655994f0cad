"""The keys with which somebody leaves a job without ending it: Ctrl-P Ctrl-Q, as with Docker."""

from __future__ import annotations

from attrs import define, field

KEYS = b"\x10\x11"


@define(eq=False)
class DetachKeys:
    """Looks for the keys in what is typed, and holds back what may be their beginning."""

    _held: bytes = field(init=False, default=b"")

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys came."""
        data = self._held + data
        self._held = b""
        before, found, _ = data.partition(KEYS)
        if found:
            return before, True
        if data.endswith(KEYS[:1]):
            self._held = KEYS[:1]
            return data[:-1], False
        return data, False
