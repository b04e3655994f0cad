"""What an artifact's URL asks of the container engine. Pure, and the same wherever it is asked."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import parse_qs, urlsplit

from attrs import frozen

_LONGEST = 1024
_LONGEST_NAME = 255

_HOST_PART = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(
    rf"(?P<name>(?:{_REGISTRY}/)?{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_SHORT_ID = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")
_HOST = re.compile(_REGISTRY)

#: Names of Docker Hub, whose images go without the name of a registry.
_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})


@frozen
class ImageReference:
    """An image as the engine is asked for it.

    :param reference: what the engine is handed; always with a tag or a digest unless it is an ID.
    :param pullable: whether a registry can be asked for it; an image ID only the engine knows.
    """

    reference: str
    pullable: bool = True


@lru_cache(maxsize=1024)
def parse_image(url: str) -> ImageReference:
    """The image that an artifact's URL means.

    :param url: ``[docker://]NAME[:TAG][@DIGEST]``, an image ID, or Flynn's
        ``https://HOST/PATH?name=REPO&tag=TAG`` or ``...&id=IMAGEID``.
    :raises ValueError: with what is wrong, to be read after the name of the field.
    """
    if not url:
        raise ValueError("must not be empty")
    if len(url) > _LONGEST:
        raise ValueError(f"must not be longer than {_LONGEST} characters")
    if url.startswith("https://"):
        return _flynn_url(url)
    reference = url.removeprefix("docker://")
    if "://" in reference:
        raise ValueError("must be an image reference, docker://REFERENCE, or https://HOST?name=REPO&tag=TAG")
    return _reference(reference)


def _reference(reference: str) -> ImageReference:
    if _IMAGE_ID.fullmatch(reference):
        return ImageReference(f"sha256:{reference.removeprefix('sha256:')}", pullable=False)
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        if _REFERENCE.fullmatch(reference.lower()):
            raise ValueError(f"{reference!r} is not an image reference: repository names are in lower case")
        raise ValueError(f"{reference!r} is not an image reference (NAME[:TAG][@DIGEST])")
    if len(found["name"]) > _LONGEST_NAME:
        raise ValueError(f"names a repository with more than {_LONGEST_NAME} characters")
    if found["tag"] is None and found["digest"] is None:
        return ImageReference(f"{reference}:latest")
    return ImageReference(reference)


def _flynn_url(url: str) -> ImageReference:
    try:
        parts = urlsplit(url)
        query = parse_qs(
            parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=16
        )
    except ValueError as e:
        raise ValueError(f"is not a proper URL: {e}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password")
    if not _HOST.fullmatch(parts.netloc):
        raise ValueError(f"has no proper registry host: {parts.netloc!r}")
    name, tag, image_id = (_only(query, key) for key in ("name", "tag", "id"))
    if image_id:
        return _by_id(image_id)
    if not name:
        raise ValueError("must have the query parameter name or id")
    registry = "" if parts.netloc.lower() in _HUB else f"{parts.netloc}/"
    return _reference(f"{registry}{name}:{tag}" if tag else f"{registry}{name}")


def _only(query: dict[str, list[str]], key: str) -> str:
    values = query.get(key, [""])
    if len(values) > 1:
        raise ValueError(f"has the query parameter {key} more than once")
    return values[0]


def _by_id(image_id: str) -> ImageReference:
    if not _SHORT_ID.fullmatch(image_id):
        raise ValueError(f"has an id that is no image ID: {image_id!r}")
    return ImageReference(image_id, pullable=False)
