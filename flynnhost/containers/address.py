"""Where the container engine listens."""

from __future__ import annotations

from attrs import frozen
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from flynnhost.errors import InvalidField

_FORMS = "is not of the form unix:///PATH or tcp://HOST:PORT"


@frozen
class EngineAddress:
    """A UNIX socket if ``path`` is given, a TCP port if not."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, url: str) -> EngineAddress:
        """The address in ``unix:///var/run/docker.sock`` or ``tcp://127.0.0.1:2375``.

        :raises InvalidField: if the URL is of neither form.
        """
        scheme, separator, rest = url.partition("://")
        if separator and scheme == "unix" and rest.startswith("/"):
            return cls(path=rest)
        if separator and scheme in ("tcp", "http"):
            return cls._parse_tcp(url, rest.rstrip("/"))
        raise InvalidField("docker", f"{_FORMS}: {url!r}")

    @classmethod
    def _parse_tcp(cls, url: str, rest: str) -> EngineAddress:
        host, _, port = rest.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise InvalidField("docker", f"{_FORMS}: {url!r}")
        return cls(host=host.strip("[]"), port=int(port))

    @property
    def url(self) -> str:
        """The address in the form that ``parse`` takes."""
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    def endpoint(self, reactor: object, timeout: float) -> IStreamClientEndpoint:
        """An endpoint of the reactor that connects there."""
        if self.path:
            return UNIXClientEndpoint(reactor, self.path, timeout=timeout)
        return HostnameEndpoint(reactor, self.host, self.port, timeout=timeout)
