"""Where a host's API is, in the forms in which people write it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from attrs import frozen

from flynnhost.client.errors import BadAddress

DEFAULT_PORT = 1113
VARIABLE = "FLYNN_HOST_URL"
"""The environment variable that names the host to ask."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_FORM = re.compile(r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?(?P<place>[^/]*)/?", re.DOTALL)
_PLACE = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<name>[^:]*))(?::(?P<port>.*))?")


@frozen
class HostAddress:
    """Where a host's API is.

    :param host: a name or an IP address, an IPv6 address without brackets.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    @property
    def netloc(self) -> str:
        """``HOST:PORT``, as it stands in URLs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL that paths are put behind."""
        return f"http://{self.netloc}"

    def __str__(self) -> str:
        return self.url

    @classmethod
    def parse(cls, text: str) -> HostAddress:
        """The address in ``http://HOST:PORT``, ``HOST:PORT`` or ``HOST``; an IPv6 address in brackets.

        :raises BadAddress: when it is none.
        """
        form = _FORM.fullmatch(text.strip())
        if form is None:
            raise BadAddress(text, "it has a path; it is to be like http://127.0.0.1:1113")
        if (form["scheme"] or "http").lower() != "http":
            raise BadAddress(text, f"the API is reached by http, not {form['scheme']}")
        place = _PLACE.fullmatch(form["place"])
        if place is None:
            raise BadAddress(text, "it is to be like http://127.0.0.1:1113; an IPv6 address needs brackets")
        return cls(_host(text, place), _port(text, place["port"]))


def from_environment(environ: Mapping[str, str]) -> HostAddress:
    """The address that the environment names, else that of this machine.

    :raises BadAddress: when it names something else.
    """
    given = environ.get(VARIABLE, "")
    return HostAddress.parse(given) if given else HostAddress()


def _host(text: str, place: re.Match[str]) -> str:
    if place["six"] is not None:
        try:
            return str(ipaddress.IPv6Address(place["six"]))
        except ValueError:
            raise BadAddress(text, f"{place['six']!r} is no IPv6 address") from None
    if not _NAME.fullmatch(place["name"]):
        raise BadAddress(text, "it has no proper host name")
    return place["name"]


def _port(text: str, port: str | None) -> int:
    if port is None:
        return DEFAULT_PORT
    if port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535:
        return int(port)
    raise BadAddress(text, f"{port!r} is no port")
