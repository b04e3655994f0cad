"""The leader role: started when this host is elected, stopped when it is deposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import define, field, frozen
from automat import TypeMachineBuilder
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.errors import CannotLead, NoLeader
from flynnhost.interfaces import HostFeed, ICluster, IClusterHosts, ISessionTransport, ISessionUser
from flynnhost.model import Host, Job, Placement


@frozen
class Leading:
    """What leads for one term.

    :param service: all that runs while this host leads.
    :param cluster: what it knows and can do.
    """

    service: IService
    cluster: ICluster


MakeLeader = Callable[[int], Leading]
"""Makes what leads for a term."""


class _Inputs(Protocol):
    """What happens to the role."""

    def elected(self, next_one: _Next) -> None:
        """This host leads."""

    def deposed(self) -> None:
        """This host leads no longer."""

    def stopped(self) -> None:
        """The leader that was being stopped has stopped."""


@define(eq=False)
class _Next:
    """A leadership that is to begin.

    :ivar begun: fires when it has, or is over before.
    """

    term: int
    begun: Deferred[None] = field(factory=Deferred)

    def tell(self, error: CannotLead | None = None) -> None:
        """Tell whoever has elected this host; once."""
        begun, self.begun = self.begun, Deferred()
        if begun.called:  # nobody waits any more
            return
        if error is None:
            begun.callback(None)
        else:
            begun.errback(error)


@define(eq=False)
class _Core:
    """What the states share: at most one leader, from its start until its stop is over.

    :ivar service: what was started last and has not stopped yet.
    :ivar cluster: what it knows and can do, while it leads.
    :ivar next_one: what is to begin when that has stopped.
    """

    log = Logger()

    make_leader: MakeLeader
    service: IService | None = None
    cluster: ICluster | None = None
    next_one: _Next | None = None
    waiting: list[Deferred[None]] = field(factory=list)

    def start(self, new: _Next) -> None:
        self.log.info("This host leads, in term {term}", term=new.term)
        try:
            leading = self.make_leader(new.term)
            self.service = leading.service
            leading.service.startService()
            self.cluster = leading.cluster
        except Exception:
            # What was started is stopped when this host is deposed.
            self.log.failure("While taking over the leadership, in term {term}", term=new.term)
            new.tell(CannotLead(new.term))
        else:
            new.tell()

    def start_later(self, new: _Next | None) -> None:
        """Have this one, if any, take the place of what was to begin."""
        before, self.next_one = self.next_one, new
        if before is not None:
            before.tell()

    def start_next(self) -> None:
        new, self.next_one = self.next_one, None
        if new is not None:
            self.start(new)

    def stop(self, inputs: _Inputs) -> None:
        self.log.info("This host leads no longer")
        self.cluster = None

        def stopped(result: object) -> None:
            self.service = None
            if isinstance(result, Failure):
                self.log.failure("While giving up the leadership", result)
            inputs.stopped()

        stopping = maybeDeferred(self.service.stopService) if self.service is not None else succeed(None)
        stopping.addBoth(stopped)

    def tell(self) -> None:
        waiting, self.waiting = self.waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(None)


def _machine() -> Callable[[_Core], _Inputs]:
    builder = TypeMachineBuilder(_Inputs, _Core)
    following = builder.state("following")
    leading = builder.state("leading")
    stopping = builder.state("stopping")
    restarting = builder.state("restarting")

    @following.upon(_Inputs.elected).to(leading)
    def begin(inputs: _Inputs, core: _Core, next_one: _Next) -> None:
        core.start(next_one)

    @following.upon(_Inputs.deposed).loop()
    def not_leading(inputs: _Inputs, core: _Core) -> None:
        core.tell()

    @leading.upon(_Inputs.elected).to(restarting)
    def begin_anew(inputs: _Inputs, core: _Core, next_one: _Next) -> None:
        core.start_later(next_one)
        core.stop(inputs)

    @leading.upon(_Inputs.deposed).to(stopping)
    def end(inputs: _Inputs, core: _Core) -> None:
        core.stop(inputs)

    @stopping.upon(_Inputs.elected).to(restarting)
    def begin_later(inputs: _Inputs, core: _Core, next_one: _Next) -> None:
        core.start_later(next_one)

    @restarting.upon(_Inputs.elected).loop()
    def begin_later_still(inputs: _Inputs, core: _Core, next_one: _Next) -> None:
        core.start_later(next_one)

    @restarting.upon(_Inputs.deposed).to(stopping)
    def begin_no_more(inputs: _Inputs, core: _Core) -> None:
        core.start_later(None)

    @stopping.upon(_Inputs.stopped).to(following)
    def ended(inputs: _Inputs, core: _Core) -> None:
        core.tell()

    @restarting.upon(_Inputs.stopped).to(leading)
    def begin_now(inputs: _Inputs, core: _Core) -> None:
        core.tell()
        core.start_next()

    stopping.upon(_Inputs.deposed).loop().returns(None)
    return builder.build()


_build_machine = _machine()


@implementer(ICluster, IClusterHosts)
@define(eq=False)
class LeaderRole(Service):
    """Leads when this host is elected, and is the cluster to those who ask this host.

    Two leaders never run here at once: the next one starts when the last has stopped. Nobody
    is answered by a leader that is being stopped.

    :param make_leader: makes the leader of a term.
    """

    _make_leader: MakeLeader
    _core: _Core = field(init=False)
    _inputs: _Inputs = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._core = _Core(self._make_leader)
        self._inputs = _build_machine(self._core)

    # --- ILeadership ---------------------------------------------------------

    def elected(self, term: int) -> Deferred[None]:
        """See ``ILeadership``. Once the role was stopped it does not lead any more."""
        if not self.running:
            return fail(CannotLead(term))
        new = _Next(term)
        begun = new.begun
        self._inputs.elected(new)
        return begun

    def deposed(self) -> Deferred[None]:
        """See ``ILeadership``."""
        over: Deferred[None] = Deferred()
        self._core.waiting.append(over)
        self._inputs.deposed()
        return over

    def stopService(self) -> Deferred[None]:
        """Give up the leadership, if this host has it."""
        super().stopService()
        return self.deposed()

    # --- ICluster ------------------------------------------------------------

    @property
    def events(self) -> HostFeed:
        """See ``ICluster``."""
        feed: HostFeed = self._cluster().events
        return feed

    def hosts(self) -> Sequence[Host]:
        """See ``ICluster``."""
        return self._cluster().hosts()

    def complete(self) -> bool:
        """See ``ICluster``."""
        return self._cluster().complete()

    def leader(self) -> Mapping[str, Any]:
        """See ``ICluster``."""
        return self._cluster().leader()

    def submit(self, batch: Mapping[str, Sequence[Job]]) -> Deferred[list[Placement]]:
        """See ``ICluster``."""
        if self._core.cluster is None:
            return fail(NoLeader())
        return self._core.cluster.submit(batch)

    # --- IClusterHosts -------------------------------------------------------

    def host(self, host_id: str) -> Host:
        """See ``IClusterHosts``."""
        return self._hosts().host(host_id)

    def set_draining(self, host_id: str, draining: bool) -> Deferred[None]:
        """See ``IClusterHosts``."""
        return maybeDeferred(lambda: self._hosts().set_draining(host_id, draining))

    def remove_job(self, host_id: str, job_id: str) -> None:
        """See ``IClusterHosts``."""
        self._hosts().remove_job(host_id, job_id)

    def open_session(self, transport: ISessionTransport) -> ISessionUser:
        """See ``IClusterHosts``."""
        return self._hosts().open_session(transport)

    def register(self, host: Host, jobs: Callable[[Sequence[Job]], None]) -> Callable[[], None]:
        """See ``IClusterHosts``."""
        return self._hosts().register(host, jobs)

    def _hosts(self) -> IClusterHosts:
        hosts: IClusterHosts = IClusterHosts(self._cluster())
        return hosts

    def _cluster(self) -> ICluster:
        if self._core.cluster is None:
            raise NoLeader
        return self._core.cluster
