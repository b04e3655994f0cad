"""A container engine in memory, on a clock that a test turns.

It passes the same contract as Docker does, and lets a test say what processes do, when
the engine is gone or hangs, how long each call takes and what fails. Nothing happens by
chance: the same calls at the same times give the same results.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NoReturn, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.containers.references import ImageReference
from flynnhost.errors import (
    ContainerNotRunning,
    EngineRefused,
    EngineUnavailable,
    ImageMissing,
    NameTaken,
    NoSuchContainer,
    PortTaken,
    PullFailed,
)
from flynnhost.interfaces import (
    ContainerSpec,
    ContainerState,
    ContainerSummary,
    EngineFacts,
    ExecSpec,
    IContainerListener,
    IContainers,
    IEntryReceiver,
    IExecution,
    IInput,
    ILogReceiver,
    ILogStream,
    IWatch,
    LogEntry,
    LogQuery,
)
from flynnhost.testing.container_events import FakeEvents
from flynnhost.testing.container_exec import FakeExecution
from flynnhost.testing.container_input import FakeInput
from flynnhost.testing.container_live import FakeLiveStream
from flynnhost.testing.container_output import FakeLogStream
from flynnhost.testing.container_process import FakeContainer, Program

T = TypeVar("T")


@frozen
class PullScript:
    """How the pull of one image goes.

    :param seconds: how long it takes.
    :param error: why it fails in the end; empty if it does not.
    """

    seconds: float = 0.0
    layers: int = 3
    error: str = ""


@frozen
class _Planned:
    error: Exception
    after: bool


@implementer(IContainers)
@define(eq=False)
class FakeContainers:
    """An ``IContainers`` in memory.

    A call is done, and its Deferred fires, before the call returns, unless ``delays`` has
    something for it. What listeners of a watch hear of what the caller itself has done, they
    hear when the clock is next advanced, if only by 0, because real ones are never called
    from within a call; what a test does to containers they hear at once.

    :param programs: what the process of a container does; asked at each start.
    :param commands: what the process of an ``exec`` does; asked at each.
    :param deadline: how long a call to an engine that hangs takes to fail.
    :param inactivity: how long a pull from an engine that hangs takes to fail.
    :param every_image: whether all images are there; if not, those in ``images`` are.
    :param facts: what the engine says of itself.
    :ivar delays: seconds that calls take by the name of the method; ``event`` is for what
        listeners hear and ``reconnect`` for a watch to connect.
    :ivar calls: how often each method was called.
    :ivar pulls: how pulls go, by image; others succeed at once if ``every_image``.
    :ivar containers: all containers that are there, by ID.
    :ivar created: how often a container of each name was created.
    :ivar started: how often a container of each name was started.
    :ivar executions: all commands that were begun by ``exec``, in order.
    :ivar taken_ports: ``(protocol, number)`` of ports that other programs have.
    """

    _clock: IReactorTime
    programs: Callable[[ContainerSpec], Program] = field(default=lambda _spec: Program())
    commands: Callable[[ContainerSpec, ExecSpec], Program] = field(
        default=lambda _spec, _command: Program(exits_after=0)
    )
    deadline: float = 60.0
    inactivity: float = 120.0
    every_image: bool = True
    facts: EngineFacts = field(factory=lambda: EngineFacts("20.10.24", "1.41", "/var/lib/docker"))
    images: set[str] = field(factory=set)
    pulls: dict[str, PullScript] = field(factory=dict)
    delays: dict[str, float] = field(factory=dict)
    calls: Counter[str] = field(init=False, factory=Counter)
    containers: dict[str, FakeContainer] = field(init=False, factory=dict)
    created: Counter[str] = field(init=False, factory=Counter)
    started: Counter[str] = field(init=False, factory=Counter)
    executions: list[FakeExecution] = field(init=False, factory=list)
    taken_ports: set[tuple[str, int]] = field(init=False, factory=set)
    _by_name: dict[str, FakeContainer] = field(init=False, factory=dict)
    _planned: dict[str, deque[_Planned]] = field(init=False, factory=dict)
    _events: FakeEvents = field(init=False)
    _held: list[Callable[[], None]] = field(init=False, factory=list)
    _within_call: bool = field(init=False, default=False)
    _made: int = field(init=False, default=0)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._events = FakeEvents(self._clock, self.delays)

    # --- what the system under test calls ---

    def ping(self) -> Deferred[None]:
        """See ``IContainers.ping``."""
        return self._call("ping", lambda: None)

    def about(self) -> Deferred[EngineFacts]:
        """See ``IContainers.about``."""
        return self._call("about", lambda: self.facts)

    def pull(self, image: str, progress: Callable[[str], None]) -> Deferred[None]:
        """See ``IContainers.pull``."""
        script = self.pulls.get(image, PullScript())
        pulled = self._call("pull", lambda: self._pulled(image, script), script.seconds)

        def tell(number: int) -> None:
            if not pulled.called and self._events.flowing:
                progress(f"pulling {image}: {number} of {script.layers} layers")

        if script.seconds:
            for number in range(script.layers):
                self._clock.callLater(script.seconds * number / script.layers, tell, number)
        return pulled

    def create(self, spec: ContainerSpec) -> Deferred[str]:
        """See ``IContainers.create``."""
        return self._call("create", lambda: self._create(spec))

    def start(self, container_id: str) -> Deferred[None]:
        """See ``IContainers.start``."""
        return self._call("start", lambda: self._start(self.container(container_id)))

    def inspect(self, container: str) -> Deferred[ContainerState]:
        """See ``IContainers.inspect``."""
        return self._call("inspect", lambda: self.container(container).state())

    def kill(self, container_id: str, signal: int) -> Deferred[None]:
        """See ``IContainers.kill``."""
        return self._call("kill", lambda: self._kill(self.container(container_id), signal))

    def remove(self, container_id: str) -> Deferred[None]:
        """See ``IContainers.remove``."""
        return self._call("remove", lambda: self._remove(container_id))

    def list_containers(self, labels: Mapping[str, str]) -> Deferred[list[ContainerSummary]]:
        """See ``IContainers.list_containers``."""
        return self._call(
            "list_containers",
            lambda: [each.summary() for each in self.containers.values() if each.has_labels(labels)],
        )

    def logs(
        self,
        container_id: str,
        tty: bool,
        query: LogQuery,
        receiver: ILogReceiver,
    ) -> Deferred[ILogStream]:
        """See ``IContainers.logs``."""
        del tty  # a container in memory knows

        def deliver(entry: LogEntry) -> None:
            receiver.output_received(entry.position.stream, entry.data)

        return self._call("logs", lambda: self._logs(container_id, query, deliver, receiver.output_ended))

    def log_entries(
        self, container_id: str, tty: bool, query: LogQuery, receiver: IEntryReceiver
    ) -> Deferred[ILogStream]:
        """See ``IContainers.log_entries``."""
        del tty

        def deliver(entry: LogEntry) -> None:
            receiver.entries_received([entry])

        return self._call("logs", lambda: self._logs(container_id, query, deliver, receiver.output_ended))

    def attach_output(self, container_id: str, tty: bool, receiver: ILogReceiver) -> Deferred[ILogStream]:
        """See ``IContainers.attach_output``."""
        del tty  # a container in memory knows
        return self._call("attach_output", lambda: self._attach_output(container_id, receiver))

    def attach_input(self, container_id: str) -> Deferred[IInput]:
        """See ``IContainers.attach_input``."""
        return self._call("attach_input", lambda: self._attach_input(container_id))

    def resize(self, container_id: str, height: int, width: int) -> Deferred[None]:
        """See ``IContainers.resize``."""
        return self._call("resize", lambda: self._resize(container_id, (height, width)))

    def exec(self, container_id: str, spec: ExecSpec, receiver: ILogReceiver) -> Deferred[IExecution]:
        """See ``IContainers.exec``."""
        return self._call("exec", lambda: self._exec(container_id, spec, receiver))

    def watch(self, labels: Mapping[str, str], listener: IContainerListener) -> IWatch:
        """See ``IContainers.watch``."""
        if self._closed:
            raise EngineUnavailable("the connection is closed for good")
        return self._events.watch(labels, listener)

    def close(self) -> Deferred[None]:
        """See ``IContainers.close``."""
        self._closed = True
        self._events.stop()
        self._cut_streams("the connection is closed for good")
        self._release()
        return succeed(None)

    # --- what a test does ---

    def container(self, id_or_name: str) -> FakeContainer:
        """One container.

        :raises NoSuchContainer: if it is not there.
        """
        found = self.containers.get(id_or_name) or self._by_name.get(id_or_name)
        if found is None:
            raise NoSuchContainer(id_or_name)
        return found

    def exit(self, id_or_name: str, code: int = 0, *, oom_killed: bool = False) -> None:
        """End a running container's process."""
        self._exit(self.container(id_or_name), code, oom_killed)

    def write(self, id_or_name: str, line: bytes, stream: int = 1) -> None:
        """Let a running container's process write a line."""
        self.container(id_or_name).wrote((stream, line), self._now())

    def vanish(self, id_or_name: str) -> None:
        """Remove a container as somebody else might do."""
        self._remove(id_or_name)

    def fail(self, method: str, error: Exception, *, times: int = 1, after: bool = False) -> None:
        """Let the next calls of a method fail.

        :param after: the work is done all the same, only the answer is lost.
        """
        self._planned.setdefault(method, deque()).extend([_Planned(error, after)] * times)

    def go_down(self, exit_code: int | None = None) -> None:
        """The engine is gone: calls fail at once, those under way too.

        :param exit_code: with which all processes end, unheard; None leaves them running.
        """
        self._events.flowing = False
        self._cut_streams("connection closed")
        for container in self.containers.values():
            if exit_code is not None and container.running:
                self._exit(container, exit_code)
        self._events.interrupt("connection closed")
        self._release()

    def hang(self) -> None:
        """The engine answers no more: calls wait, and are done when it comes back."""
        self._events.flowing = None

    def come_back(self) -> None:
        """The engine works again, after ``go_down`` or ``hang``."""
        self._events.flowing = True
        self._release()
        self._events.resume()

    def break_events(self, reason: str = "the stream of events ended") -> None:
        """Interrupt all watches; they connect again by themselves if the engine is there."""
        self._events.interrupt(reason)

    def drop_events(self, drop: bool = True) -> None:
        """Lose all events silently from now on, as a connection that is half open does."""
        self._events.drop = drop

    # --- calls ---

    def _call(self, method: str, work: Callable[[], T], takes: float = 0.0) -> Deferred[T]:
        self.calls[method] += 1
        takes += self.delays.get(method, 0.0)
        planned = self._planned.get(method)
        plan = planned.popleft() if planned else None
        result: Deferred[T] = Deferred()
        if takes or self._events.flowing is None:
            patience = takes + (self.inactivity if method == "pull" else self.deadline)
            result.addTimeout(patience, self._clock, _no_answer)
            self._clock.callLater(takes, self._answer, result, work, plan)
        else:
            self._within_call = True
            try:
                self._answer(result, work, plan)
            finally:
                self._within_call = False
        return result

    def _answer(self, result: Deferred[T], work: Callable[[], T], plan: _Planned | None) -> None:
        if self._events.flowing is None and not self._closed:
            self._held.append(lambda: self._answer(result, work, plan))
            return
        try:
            value = self._work(work, plan)
        except Exception:
            if not result.called:
                result.errback(Failure())
        else:
            if not result.called:
                result.callback(value)
            else:
                _abandon(value)

    def _work(self, work: Callable[[], T], plan: _Planned | None) -> T:
        if self._closed or not self._events.flowing:
            raise EngineUnavailable("connection refused")
        if plan is not None and not plan.after:
            raise plan.error
        value = work()
        if plan is not None:
            raise plan.error
        return value

    def _release(self) -> None:
        held, self._held = self._held, []
        for each in held:
            each()

    # --- the work ---

    def _pulled(self, image: str, script: PullScript) -> None:
        if script.error or (not self.every_image and image not in self.pulls):
            raise PullFailed(image, script.error or "manifest unknown")
        self.images.add(str(ImageReference.parse(image)))

    def _create(self, spec: ContainerSpec) -> str:
        if not self.every_image and str(ImageReference.parse(spec.image)) not in self.images:
            raise ImageMissing(spec.image)
        if spec.name in self._by_name:
            raise NameTaken(spec.name)
        self._made += 1
        container = FakeContainer(f"{self._made:064x}", spec, self._made)
        container.on_eof = lambda: self._exit_by_itself(container)
        container.now = self._now
        self.containers[container.id] = self._by_name[spec.name] = container
        self.created[spec.name] += 1
        self._emit(container, "create")
        return container.id

    def _start(self, container: FakeContainer) -> None:
        if container.running:
            return
        program = self.programs(container.spec)
        self._check_ports(container)
        if program.refused:
            container.error = program.refused
            raise EngineRefused(program.refused)
        self.started[container.spec.name] += 1
        self._emit(container, "start")
        container.began(program, self._now())
        container.take_input()
        if not container.running:
            return
        if program.exits_after == 0:
            self._exit_by_itself(container)
        elif program.exits_after is not None:
            timer = self._clock.callLater(program.exits_after, self._exit_by_itself, container)
            container.exit_timer = timer

    def _check_ports(self, container: FakeContainer) -> None:
        wanted = {(port.proto, port.host_port) for port in container.spec.ports}
        if not wanted:
            return
        taken = set(self.taken_ports)
        for other in self.containers.values():
            if other.running:
                taken |= {(port.proto, port.host_port) for port in other.spec.ports}
        for _, number in wanted & taken:
            container.error = f"Bind for 0.0.0.0:{number} failed: port is already allocated"
            raise PortTaken(container.error)

    def _exit_by_itself(self, container: FakeContainer) -> None:
        if container.running:
            self._exit(container, container.program.exit_code, container.program.oom_killed)

    def _exit(self, container: FakeContainer, code: int, oom_killed: bool = False) -> None:
        if not container.running:
            raise ContainerNotRunning(container.id)
        container.ended(code, oom_killed, self._now())
        for execution in self.executions:
            if execution.container_id == container.id:
                execution.exited(137)
        if oom_killed:
            self._emit(container, "oom")
        self._emit(container, "die")

    def _kill(self, container: FakeContainer, signal: int) -> None:
        if not container.running:
            raise ContainerNotRunning(container.id)
        self._emit(container, "kill")
        if signal in container.program.on_signal:
            self._exit(container, container.program.on_signal[signal])

    def _remove(self, id_or_name: str) -> None:
        try:
            container = self.container(id_or_name)
        except NoSuchContainer:
            return
        if container.running:
            self._exit(container, 137)
        del self.containers[container.id], self._by_name[container.spec.name]
        self._emit(container, "destroy")

    def _logs(
        self,
        container_id: str,
        query: LogQuery,
        deliver: Callable[[LogEntry], None],
        end: Callable[[Exception | None], None],
    ) -> ILogStream:
        container = self.container(container_id)
        if not container.spec.keep_output:
            raise EngineRefused("configured logging driver does not support reading")
        if not query.stdout and not query.stderr:
            raise EngineRefused("Bad parameters: you must choose at least one stream")
        begin = container.output.begin(query)
        stream = FakeLogStream(query, container.output, deliver, end, begin)
        container.read(stream, query)
        self._clock.callLater(0, stream.begin)
        return stream

    def _attach_output(self, container_id: str, receiver: ILogReceiver) -> ILogStream:
        stream = FakeLiveStream(receiver)
        self._not_ended(container_id).attach(stream)
        self._clock.callLater(0, stream.begin)
        return stream

    def _attach_input(self, container_id: str) -> IInput:
        container = self._not_ended(container_id)
        way = FakeInput(self._clock, container)
        container.inputs.append(way)
        return way

    def _resize(self, container_id: str, size: tuple[int, int]) -> None:
        container = self.container(container_id)
        if not container.running:
            raise ContainerNotRunning(container_id)
        container.size = size

    def _exec(self, container_id: str, spec: ExecSpec, receiver: ILogReceiver) -> IExecution:
        container = self.container(container_id)
        if not container.running:
            raise ContainerNotRunning(container_id)
        program = self.commands(container.spec, spec)
        if program.refused:
            raise EngineRefused(program.refused)
        execution = FakeExecution(self._clock, container.id, spec, program, receiver)
        self.executions.append(execution)
        execution.begin()
        return execution

    def _not_ended(self, container_id: str) -> FakeContainer:
        container = self.container(container_id)
        if container.starts and not container.running:
            raise ContainerNotRunning(container_id)
        return container

    def _cut_streams(self, reason: str) -> None:
        for container in self.containers.values():
            container.close_readers(EngineUnavailable(reason))
            container.close_inputs()
        for execution in self.executions:
            execution.cut(EngineUnavailable(reason))

    def _emit(self, container: FakeContainer, action: str) -> None:
        self._events.emit(container, action, at_once=not self._within_call)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.seconds(), UTC)


def _abandon(value: object) -> None:
    """Free what nobody waits for any more."""
    if isinstance(value, FakeLogStream | FakeLiveStream):
        value.stopProducing()
    elif isinstance(value, FakeInput | FakeExecution):
        value.close()


def _no_answer(_result: object, timeout: float) -> NoReturn:
    raise EngineUnavailable(f"no answer in {timeout:g} s")
