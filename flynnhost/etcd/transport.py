"""Asking etcd: one member after the other, within a deadline, as the user that we are."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from flynnhost.errors import EtcdRefused, EtcdUnavailable, PermissionDenied
from flynnhost.etcd.answers import Json, NoVoter, TokenRefused, read_answer
from flynnhost.etcd.auth import Login
from flynnhost.etcd.endpoints import Endpoint, Endpoints
from flynnhost.etcd.lanes import AnswerTooLong, Lane, Lanes

T = TypeVar("T")

LONGEST_ANSWER = 64 * 2**20
"""How many bytes an answer or a frame may have."""

_CLOSED = "the client is closed"

# Without it a member that has lost the others lets us wait for many seconds, and a watch for ever.
_LEADER = {"Grpc-Metadata-hasleader": "true"}


def bounded(
    clock: IReactorTime, seconds: float, work: Coroutine[Deferred[Any], Any, T], cut: Callable[[], None]
) -> Deferred[T]:
    """Do some work, which is cut off when it takes too long, or when the Deferred is cancelled.

    Twisted's HTTP client turns a cancel into failures of many kinds; here it is one of the two
    that it was meant to be, ``EtcdUnavailable`` or ``CancelledError``, at once.

    :param cut: ends the connection that the work is done on.
    """
    running: Deferred[T]
    timer: IDelayedCall
    over = False

    def end(error: Exception) -> None:
        nonlocal over
        over = True
        if timer.active():
            timer.cancel()
        cut()
        running.cancel()
        done.errback(error)

    def finished(result: T | Failure) -> None:
        if over:
            return
        timer.cancel()
        if isinstance(result, Failure):
            cut()
        done.callback(result)

    def cancelled(_: Deferred[T]) -> None:
        end(CancelledError())

    done: Deferred[T] = Deferred(cancelled)
    timer = clock.callLater(seconds, lambda: end(EtcdUnavailable(f"no answer within {seconds:.3g} s")))
    running = Deferred.fromCoroutine(work)
    running.addBoth(finished)
    return done


@frozen
class _Question:
    path: str
    body: bytes
    leader: bool
    login: bool


@define(eq=False)
class Transport:
    """A way to all members.

    :param lanes: for what may wait for one another, at most ``at_once`` at a time.
    :param own_lanes: for what waits behind nothing.
    :param login: who we are; None if etcd does not ask.
    """

    reactor: Any
    endpoints: Endpoints
    _lanes: Lanes
    _own_lanes: Lanes
    _login: Login | None
    _at_once: int
    _turns: DeferredSemaphore = field(init=False)
    _asking: dict[Deferred[Any], None] = field(init=False, factory=dict)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._turns = DeferredSemaphore(self._at_once)

    def ask(
        self, path: str, body: Json, within: float, *, queued: bool = True, leader: bool = True
    ) -> Deferred[Json]:
        """Ask one member after the other until one gives an answer that counts. Fires with it.

        :param path: after ``/v3/``.
        :param queued: whether it may wait behind other calls.
        :param leader: whether only a member that has a leader may answer.
        :raises FlynnHostError: (as the Deferred's failure) what etcd says is wrong.
        """
        # What waits behind nothing does not wait for a login either; etcd does not guard it.
        question = _Question(path, json.dumps(body).encode(), leader, login=queued and leader)
        asking = Deferred.fromCoroutine(self._ask(question, within, queued))
        self._asking[asking] = None

        def over(result: T) -> T:
            self._asking.pop(asking, None)
            if self._closed and isinstance(result, Failure) and result.check(CancelledError):
                raise EtcdUnavailable(_CLOSED)
            return result

        return asking.addBoth(over)

    async def exchange(
        self, lane: Lane, path: str, body: bytes, within: float, headers: Mapping[str, str]
    ) -> Json:
        """Ask one member. The lane is cut unless an answer came, whatever it was."""
        work = self._exchange(lane, path, body, headers)
        status, answer = await bounded(self.reactor, within, work, lane.abort)
        return read_answer(status, answer)

    async def headers(
        self, endpoint: Endpoint, within: float, *, leader: bool = True, login: bool = True
    ) -> Mapping[str, str]:
        """What to send along to this member.

        :param login: whether to log in there first, if that is needed.
        """
        headers = _LEADER if leader else {}
        if self._login is None:
            return headers
        if self._login.known or not login:
            return {**headers, "Authorization": self._login.known} if self._login.known else headers
        lane = self._own_lanes.take(endpoint)
        try:
            token = await self._login.token(
                self.reactor, within, lambda path, body: self.exchange(lane, path, body, within, _LEADER)
            )
        finally:
            self._own_lanes.give_back(lane)
        return {**headers, "Authorization": token} if token else headers

    def token_refused(self, headers: Mapping[str, str], error: TokenRefused) -> None:
        """A member did not take what ``headers`` gave. Log in again before the next time.

        :raises PermissionDenied: when there is nothing to log in with.
        """
        if self._login is None:
            raise PermissionDenied(error.reason) from error
        self._login.refused(headers.get("Authorization", ""))

    def lane(self, endpoint: Endpoint) -> Lane:
        """A connection for oneself. Give it back."""
        return self._own_lanes.take(endpoint)

    def give_back(self, lane: Lane) -> None:
        """End the use of a connection that one had for oneself."""
        self._own_lanes.give_back(lane)

    async def close(self) -> None:
        """End all calls and connections."""
        self._closed = True
        for asking in list(self._asking):
            asking.cancel()
        self._lanes.close()
        self._own_lanes.close()
        await deferLater(self.reactor, 0)  # a connection that is cut is gone after the reactor's next round

    # --- one member after the other -------------------------------------------

    async def _ask(self, question: _Question, within: float, queued: bool) -> Json:
        until = self.reactor.seconds() + within
        if not queued:
            return await self._ask_each(self._own_lanes, question, until)
        turn = self._turns.acquire()
        turn.addTimeout(within, self.reactor, _too_many)
        await turn
        try:
            return await self._ask_each(self._lanes, question, until)
        finally:
            self._turns.release()

    async def _ask_each(self, lanes: Lanes, question: _Question, until: float) -> Json:
        reasons: list[str] = []
        order = self.endpoints.in_order()
        for number, endpoint in enumerate(order):
            left = until - self.reactor.seconds()
            share = left if number == len(order) - 1 else left / 2
            if share <= 0 or self._closed:
                break
            try:
                answer = await self._ask_one(lanes, endpoint, question, share)
            except (EtcdUnavailable, NoVoter) as e:
                self.endpoints.failed(endpoint, useless=isinstance(e, NoVoter))
                reasons.append(f"{endpoint.url}: {e.reason}")
            else:
                self.endpoints.answered(endpoint)
                return answer
        raise EtcdUnavailable(_CLOSED if self._closed else "; ".join(reasons) or "no time left")

    async def _ask_one(self, lanes: Lanes, endpoint: Endpoint, question: _Question, within: float) -> Json:
        """Ask a member, once more if the connection was an old one or the token was."""
        until = self.reactor.seconds() + within
        tries, fresh, login = 3, False, question.login
        while True:
            tries -= 1
            left = max(0.0, until - self.reactor.seconds())
            headers = await self.headers(endpoint, left, leader=question.leader, login=login)
            lane = lanes.take(endpoint, fresh)
            fresh = lane.used
            try:
                return await self.exchange(lane, question.path, question.body, left, headers)
            except TokenRefused as e:
                self.token_refused(headers, e)
                login = True
                if not tries:
                    raise EtcdUnavailable(e.reason) from e
            except _ConnectionLost:
                if not fresh or not tries or until <= self.reactor.seconds():
                    raise
            finally:
                lanes.give_back(lane)

    async def _exchange(
        self, lane: Lane, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        try:
            response = await lane.post(f"/v3/{path}", body, headers)
            return response.code, await lane.read(response, LONGEST_ANSWER)
        except CancelledError:
            raise
        except AnswerTooLong as e:
            raise EtcdRefused(f"its answer is too long for us: {e}") from e
        except Exception as e:
            raise _ConnectionLost(words(e)) from e


class _ConnectionLost(EtcdUnavailable):
    """There was no answer, because there is no connection (any more)."""


def _too_many(_: object, seconds: float) -> Any:
    raise EtcdUnavailable(f"too many calls wait for etcd: no turn within {seconds:.3g} s")


def words(error: BaseException) -> str:
    """What went wrong with a connection, in words."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return "; ".join(words(reason.value) for reason in reasons)
    return str(error) or type(error).__name__
