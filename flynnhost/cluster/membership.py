"""Which hosts are in the cluster, and which of them can be reached."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from heapq import nsmallest
from itertools import islice

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from flynnhost.cluster.arrival import Arrival
from flynnhost.cluster.state import ClusterState
from flynnhost.errors import HostNotReady, NotReady, UnknownHost
from flynnhost.interfaces import IHostLink
from flynnhost.model import HostEvent, HostEventKind

GRACE = 60.0
"""Seconds for which a host that is lost, or has not reported yet, is waited for."""

_REMOVED_AT_ONCE = 10


@define(eq=False)
class _Member:
    """A host that has reported, or had a short time ago to another leader.

    :ivar link: the way to it; None if it was lost before this leader was elected.
    :ivar instance: what tells it from another host that was given the same ID; empty for one
        that is told by its link only.
    """

    link: IHostLink | None
    instance: str
    down_since: float | None = None
    draining: bool = False


@define(eq=False)
class Membership:
    """The hosts of one leader, up and down.

    A host that is lost stays, with its jobs, until it is back or the grace has passed. A new
    leader is recovering until all hosts it expects have reported or the grace has passed.

    :param publish: told of each change.
    :param expected: the hosts that are to report; None if that is not known yet.
    """

    log = Logger()

    _clock: IReactorTime
    _state: ClusterState
    _publish: Callable[[HostEvent], None]
    _grace: float
    _expected: Collection[str] | None = ()
    _members: dict[str, _Member] = field(init=False, factory=dict)
    # In the order in which their grace ends.
    _down: dict[str, None] = field(init=False, factory=dict)
    _missing: set[str] | None = field(init=False)
    _registered: Mapping[str, str] = field(init=False, factory=dict)
    _recover_until: float = field(init=False, default=0.0)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _stopped: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._missing = None if self._expected is None else set(self._expected)

    def start(self) -> None:
        """Begin to wait for the hosts that are expected."""
        self._recover_until = self._clock.seconds() + self._grace
        self._set_timer()

    def stop(self) -> None:
        """Remove nothing any more."""
        self._stopped = True
        self._set_timer()

    # --- recovering -----------------------------------------------------------

    @property
    def recovering(self) -> str:
        """Why this may not be the whole cluster yet; empty when it is."""
        if self._missing is None:
            return "it is not known yet which hosts there are"
        if self._missing:
            some = ", ".join(nsmallest(3, self._missing)) + (", ..." if len(self._missing) > 3 else "")
            return f"{len(self._missing)} hosts have not reported yet: {some}"
        return ""

    @property
    def complete(self) -> bool:
        """Whether every host that is expected has reported."""
        return self._missing is not None and not self._missing and bool(self._members)

    def expect(self, hosts: Mapping[str, str]) -> None:
        """Say which hosts are registered; see ``Leader.expect``."""
        self._registered = hosts
        if self._recovering_still():
            self._missing = {host_id for host_id in hosts if host_id not in self._members}
            self._reported()

    def waits_for(self, host_id: str) -> bool:
        """Whether this host is to report still."""
        return self._missing is not None and host_id in self._missing

    def _recovering_still(self) -> bool:
        return self._missing is None or bool(self._missing)

    def _reported(self) -> None:
        if self._missing is not None and not self._missing:
            self.log.info("All hosts have reported")
            self._set_timer()

    # --- hosts ----------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many hosts there are, those included that are expected."""
        return len(self._members) + len(self._missing or ())

    def __contains__(self, host_id: str) -> bool:
        return host_id in self._members

    def instance(self, host_id: str) -> str | None:
        """Which host has this ID, up or down, or is registered with it; None if there is none."""
        member = self._members.get(host_id)
        return (self._registered.get(host_id) or None) if member is None else member.instance

    def link(self, host_id: str, job_ids: Sequence[str]) -> IHostLink:
        """The way to a host for jobs. One that drains takes no new ones, but goes on saying what it has.

        :param job_ids: at least one.
        :raises UnknownHost: when there is no such host.
        :raises HostNotReady: when it is down, or drains and does not have all of the jobs.
        """
        member = self._members.get(host_id)
        if member is None:
            raise UnknownHost(host_id)
        if member.down_since is not None or member.link is None:
            raise HostNotReady(host_id, job_ids[0], "is not connected")
        if member.draining:
            for job_id in job_ids:
                if not self._state.has_job(host_id, job_id) and not self._state.had_job(host_id, job_id):
                    raise HostNotReady(host_id, job_id, "is draining")
        return member.link

    def command_link(self, host_id: str) -> IHostLink:
        """The way to a host for what is not about jobs.

        :raises UnknownHost: when there is no such host.
        :raises NotReady: when it is down.
        """
        member = self._members.get(host_id)
        if member is None:
            raise UnknownHost(host_id)
        if member.down_since is not None or member.link is None:
            raise NotReady(f"host {host_id} is not connected")
        return member.link

    def set_draining(self, host_id: str, draining: bool) -> None:
        """A host is to get no more jobs, or some again, if it is there."""
        member = self._members.get(host_id)
        if member is not None and member.draining != draining:
            self.log.info(
                "Host {host_id} drains" if draining else "Host {host_id} drains no longer", host_id=host_id
            )
            member.draining = draining
            self._state.set_draining(host_id, draining)

    def join(self, arrival: Arrival, link: IHostLink) -> None:
        """Take in a host with the jobs it has, in place of what was known of it."""
        host_id = arrival.host_id
        known = self._members.get(host_id)
        self._state.add_host(arrival)
        self._members[host_id] = _Member(link, arrival.instance, draining=arrival.draining)
        if known is None:
            self._tell(HostEventKind.ADD, host_id)
        elif known.down_since is not None:
            self._down.pop(host_id, None)
            self._set_timer()
            self._tell(HostEventKind.UP, host_id)
        if self._missing:
            self._missing.discard(host_id)
            self._reported()

    def lost(self, host_id: str, link: IHostLink) -> None:
        """A host can't be reached, if this is the way to it still."""
        member = self._members.get(host_id)
        if member is not None and member.link is link and member.down_since is None:
            self._set_down(host_id, member)

    def missed(self, host_id: str, instance: str, addr: str = "") -> None:
        """A host was there under an earlier leader and is not now: keep its place, unless it is back."""
        if host_id not in self._members:
            member = self._members[host_id] = _Member(None, instance)
            self._state.add_host(Arrival(host_id, instance=instance, addr=addr))
            self._tell(HostEventKind.ADD, host_id)
            self._set_down(host_id, member)

    def _set_down(self, host_id: str, member: _Member) -> None:
        member.down_since = self._clock.seconds()
        self._down[host_id] = None
        self._state.set_down(host_id)
        self._set_timer()
        self._tell(HostEventKind.DOWN, host_id)

    def remove(self, host_id: str) -> None:
        """Take a host out with its jobs, if it is there."""
        if self._members.pop(host_id, None) is not None:
            self._down.pop(host_id, None)
            self._set_timer()
            self._state.remove_host(host_id)
            self._tell(HostEventKind.REMOVE, host_id)

    def leave(self, host_id: str, link: IHostLink) -> None:
        """The same, if this is the way to it still."""
        member = self._members.get(host_id)
        if member is not None and member.link is link:
            self.remove(host_id)

    def _tell(self, kind: HostEventKind, host_id: str) -> None:
        self._publish(HostEvent(kind, host_id))

    # --- the ends of graces ---------------------------------------------------

    def _set_timer(self) -> None:
        """One timer, for whatever is due first."""
        due = [self._recover_until] if self._recovering_still() else []
        for host_id in self._down:
            due.append((self._members[host_id].down_since or 0.0) + self._grace)
            break
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due and not self._stopped:
            self._timer = self._clock.callLater(max(0.0, min(due) - self._clock.seconds()), self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if self._recovering_still() and self._recover_until <= now:
            self.log.warn("Going on without hosts that may be there: {reason}", reason=self.recovering)
            self._missing = set()
        # The others have their turn soon, if a large part of the cluster was lost at once.
        for host_id in list(islice(self._down, _REMOVED_AT_ONCE)):
            if (self._members[host_id].down_since or 0.0) + self._grace > now:
                break
            self.log.warn("Host {host_id} has been away for too long", host_id=host_id)
            self.remove(host_id)
        self._set_timer()
