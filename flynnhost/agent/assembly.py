"""Puts an agent together from its parts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime

from flynnhost.agent.agent import Agent
from flynnhost.agent.attachment import Surroundings
from flynnhost.agent.attachments import Attachments
from flynnhost.agent.attributes import Attributes
from flynnhost.agent.before_start import BeforeStart
from flynnhost.agent.clearing import Clearing
from flynnhost.agent.draining import Draining
from flynnhost.agent.engine import EngineHealth
from flynnhost.agent.images import ImagePulls
from flynnhost.agent.intake import Intake
from flynnhost.agent.live_output import LiveOutputs, MakeSpool
from flynnhost.agent.output import JobOutput
from flynnhost.agent.ports import PortCheck, PortLeases
from flynnhost.agent.reconcile import Reconciler
from flynnhost.agent.runner import Runner
from flynnhost.agent.settings import HostSettings
from flynnhost.agent.spec import JobContainers
from flynnhost.agent.stopping import Stopper
from flynnhost.agent.table import JobTable
from flynnhost.background import Background
from flynnhost.feed import Feed
from flynnhost.interfaces import IContainers, IJournal
from flynnhost.model import ActiveJob, JobEvent


def build_agent(
    clock: IReactorTime,
    now: Callable[[], datetime],
    settings: HostSettings,
    journal: IJournal,
    containers: IContainers,
    port_is_free: PortCheck,
    epoch: str,
    make_spool: MakeSpool,
    failed: Callable[[str], None],
) -> Agent:
    """An agent with all its parts, not started.

    :param now: tells the time of day.
    :param port_is_free: whether the system has a port unbound.
    :param epoch: what tells this run's event IDs from another's.
    :param make_spool: makes a place for the output that slow readers of a job have not read yet.
    :param failed: called with the reason when the host can't work at all.
    """
    host_id = settings.host_id
    events: Feed[JobEvent] = Feed(epoch)
    background = Background(f"host {host_id}")
    table = JobTable(clock, now, journal, events, background)
    engine = EngineHealth(clock, containers, background)
    ports = PortLeases(*settings.ports, port_is_free)
    specs = JobContainers(host_id, settings.external_ip, settings.bind_ip)
    slots = DeferredSemaphore(settings.starts_at_once)
    images = ImagePulls(containers)
    starts = BeforeStart(clock, background)
    runner = Runner(
        clock, table, containers, engine, images, ports, specs, background, slots, starts.about_to_start
    )
    intake = Intake(host_id, table, journal, ports, runner.run)
    reconciler = Reconciler(clock, host_id, table, intake, containers, engine, runner, background)
    stopper = Stopper(clock, table, containers, engine, runner, background, reconciler.look)

    output = JobOutput(table, containers)
    live = LiveOutputs(clock, table, containers, background, make_spool)
    surroundings = Surroundings(
        clock,
        background,
        table,
        containers,
        engine,
        live,
        starts,
        lambda job_id, query, receiver: Deferred.fromCoroutine(output.read(job_id, query, receiver)),
        lambda job_id, number: Deferred.fromCoroutine(stopper.signal(job_id, number)),
    )

    def release_ports(job: ActiveJob) -> None:
        ports.release(job.id, job.host_ports)

    table.on_exit(release_ports)
    return Agent(
        clock=clock,
        settings=settings,
        events=events,
        journal=journal,
        containers=containers,
        background=background,
        table=table,
        engine=engine,
        ports=ports,
        runner=runner,
        intake=intake,
        reconciler=reconciler,
        stopper=stopper,
        output=output,
        attachments=Attachments(surroundings),
        clearing=Clearing(clock, host_id, table, containers),
        draining=Draining(journal),
        attributes=Attributes(journal, settings.attributes),
        failed=failed,
    )
