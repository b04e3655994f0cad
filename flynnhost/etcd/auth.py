"""Logging in to etcd."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.errors import EtcdRefused, EtcdUnavailable
from flynnhost.etcd.answers import Json

_NOT_ENABLED = "authentication is not enabled"


@frozen
class User:
    """A user of etcd."""

    name: str
    password: str = field(repr=False)


@define(eq=False)
class Login:
    """The token by which etcd knows us, had when it is needed and again when it has expired.

    Checking a password costs etcd much, so all who need a token wait for one login.
    """

    log = Logger()

    _user: User
    _token: str | None = field(init=False, default=None)
    _lock: DeferredLock = field(init=False, factory=DeferredLock)

    @property
    def known(self) -> str:
        """The token, if there is one already."""
        return self._token or ""

    async def token(
        self, clock: IReactorTime, within: float, ask: Callable[[str, bytes], Awaitable[Json]]
    ) -> str:
        """The token; empty when etcd does not ask who we are.

        :param ask: asks a member.
        :raises PermissionDenied: when etcd does not know the user or the password is wrong.
        """
        if self._token is None:
            turn: Deferred[DeferredLock] = self._lock.acquire()
            turn.addTimeout(within, clock, _too_slow)
            await turn
            try:
                if self._token is None:
                    self._token = await self._log_in(ask)
            finally:
                self._lock.release()
        return self._token

    def refused(self, token: str) -> None:
        """This token does not count any more."""
        if token == (self._token or ""):
            self._token = None

    async def _log_in(self, ask: Callable[[str, bytes], Awaitable[Json]]) -> str:
        body = json.dumps({"name": self._user.name, "password": self._user.password}).encode()
        try:
            answer = await ask("auth/authenticate", body)
        except EtcdRefused as e:
            if _NOT_ENABLED in e.reason:
                self.log.warn("etcd does not ask for users: whoever reaches it may do anything there")
                return ""
            raise
        self.log.debug("Logged in to etcd as {user}", user=self._user.name)
        return str(answer.get("token", ""))


def _too_slow(_: object, seconds: float) -> object:
    raise EtcdUnavailable(f"the login took longer than {seconds:.3g} s")
