"""References to images, as in ``registry:5000/team/thing:1.2`` or ``thing@sha256:0123...``."""

from __future__ import annotations

from attrs import frozen


@frozen
class ImageReference:
    """An image and which of its versions.

    :param repository: everything before the tag or digest, the registry included.
    :param version: a tag, or a digest such as ``sha256:0123...``.
    """

    repository: str
    version: str

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """The reference in a text; with neither tag nor digest it means ``latest``."""
        repository, at, digest = text.partition("@")
        if at:
            return cls(_split_tag(repository)[0], digest)
        repository, tag = _split_tag(text)
        return cls(repository, tag or "latest")

    def __str__(self) -> str:
        separator = "@" if ":" in self.version else ":"
        return f"{self.repository}{separator}{self.version}"


def _split_tag(text: str) -> tuple[str, str]:
    before, colon, after = text.rpartition(":")
    # A colon before a slash is that of the registry's port.
    return (before, after) if colon and "/" not in after else (text, "")
