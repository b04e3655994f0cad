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

from flynnhost.errors import NoLeader
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

    def elected(self, term: int) -> None:
        """This host leads, with this term."""

    def deposed(self) -> None:
        """This host leads no longer."""

    def stopped(self) -> None:
        """The leader that was being stopped has stopped."""


@define(eq=False)
class _Core:
    """What the states share: at most one leader, from its start until its stop is over.

    :ivar service: what was started last and has not stopped yet.
    :ivar cluster: what it knows and can do, while it leads.
    """

    log = Logger()

    make_leader: MakeLeader
    service: IService | None = None
    cluster: ICluster | None = None
    next_term: int = 0
    waiting: list[Deferred[None]] = field(factory=list)

    def start(self) -> None:
        self.log.info("This host leads, in term {term}", term=self.next_term)
        try:
            leading = self.make_leader(self.next_term)
            self.service = leading.service
            leading.service.startService()
            self.cluster = leading.cluster
        except Exception:
            # Nobody leads then until the next election; what was started is stopped before.
            self.log.failure("While taking over the leadership, in term {term}", term=self.next_term)

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
    def begin(inputs: _Inputs, core: _Core, term: int) -> None:
        core.next_term = term
        core.start()

    @following.upon(_Inputs.deposed).loop()
    def not_leading(inputs: _Inputs, core: _Core) -> None:
        core.tell()

    @leading.upon(_Inputs.elected).to(restarting)
    def begin_anew(inputs: _Inputs, core: _Core, term: int) -> None:
        core.next_term = term
        core.stop(inputs)

    @leading.upon(_Inputs.deposed).to(stopping)
    def end(inputs: _Inputs, core: _Core) -> None:
        core.stop(inputs)

    @stopping.upon(_Inputs.elected).to(restarting)
    def begin_later(inputs: _Inputs, core: _Core, term: int) -> None:
        core.next_term = term

    @restarting.upon(_Inputs.elected).loop()
    def begin_later_still(inputs: _Inputs, core: _Core, term: int) -> None:
        core.next_term = term

    @stopping.upon(_Inputs.stopped).to(following)
    def ended(inputs: _Inputs, core: _Core) -> None:
        core.tell()

    @restarting.upon(_Inputs.stopped).to(leading)
    def begin_now(inputs: _Inputs, core: _Core) -> None:
        core.tell()
        core.start()

    restarting.upon(_Inputs.deposed).to(stopping).returns(None)
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

    def elected(self, term: int) -> None:
        """See ``ILeadership``. Once the role was stopped it does not lead any more."""
        if self.running:
            self._inputs.elected(term)

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
