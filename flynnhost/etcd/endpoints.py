"""Which members of etcd there are to be asked, and which to ask first."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from attrs import define, evolve, field, frozen
from twisted.internet.interfaces import IReactorTime

from flynnhost.errors import InvalidField

DEFAULT_PORT = 2379

_FIRST_REST = 0.5
_LONGEST_REST = 30.0


@frozen
class Endpoint:
    """Where a member serves clients.

    :param host: a name or an address, without brackets.
    """

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """As operators write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.scheme == "https"


def parse_endpoints(urls: Sequence[str]) -> tuple[Endpoint, ...]:
    """What operators wrote, each one once.

    :raises InvalidField: when one can't be understood, or there is none.
    """
    if not urls:
        raise InvalidField("endpoints", "must name at least one member of etcd")
    return tuple(dict.fromkeys(_parse(url, f"endpoints[{index}]") for index, url in enumerate(urls)))


def _parse(url: str, name: str) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidField(name, "must be like http://host:2379 or https://host:2379")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise InvalidField(name, "must have nothing but a scheme, a host and a port")
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError as e:
        raise InvalidField(name, "has a port that is none") from e
    return Endpoint(parts.scheme, parts.hostname, port)


@frozen
class _Standing:
    """What is known of a member.

    :param failures: in a row.
    :param rests_until: it is asked only after all others before that.
    """

    failures: int = 0
    rests_until: float = 0.0


@define(eq=False)
class Endpoints:
    """Members in the order in which to ask them: the one that answered last, then the others, at last
    those that failed lately, for each failure in a row twice as long.

    No member is ever given up: when all fail, they are all asked all the same.

    :param chance: gives numbers from 0 to below 1. Hosts that lose a member spread over the others.
    """

    _clock: IReactorTime
    _all: tuple[Endpoint, ...]
    _chance: Callable[[], float] = random.random
    _good: Endpoint | None = field(init=False, default=None)
    _standing: dict[Endpoint, _Standing] = field(init=False, factory=dict)
    _order: dict[Endpoint, float] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.replace(self._all)

    def replace(self, endpoints: Sequence[Endpoint]) -> None:
        """Ask these from now on; what is known of members that remain stays known."""
        self._all = tuple(endpoints)
        self._standing = {each: self._standing.get(each, _Standing()) for each in self._all}
        self._order = {each: self._chance() for each in self._all}
        if self._good not in self._standing:
            self._good = None

    def in_order(self) -> tuple[Endpoint, ...]:
        """All members, the best one to ask first."""
        return tuple(sorted(self._all, key=self._rank))

    def answered(self, endpoint: Endpoint) -> None:
        """This member has given an answer that counts."""
        if endpoint in self._standing:
            self._good = endpoint
            self._standing[endpoint] = _Standing()

    def failed(self, endpoint: Endpoint, *, useless: bool = False) -> None:
        """This member has given none.

        :param useless: it said that it can't serve us, as a learner does: let it rest for long.
        """
        standing = self._standing.get(endpoint)
        if standing is None:
            return
        if self._good == endpoint:
            self._good = None
        rest = (
            _LONGEST_REST if useless else min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(standing.failures, 20))
        )
        self._standing[endpoint] = evolve(
            standing, failures=standing.failures + 1, rests_until=self._clock.seconds() + rest
        )

    def _rank(self, endpoint: Endpoint) -> tuple[float, bool, float]:
        rests_until = self._standing[endpoint].rests_until
        rests = rests_until if rests_until > self._clock.seconds() else 0.0
        return rests, endpoint != self._good, self._order[endpoint]
