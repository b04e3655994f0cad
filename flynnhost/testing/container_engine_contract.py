# ruff: noqa: S101 - these are tests
"""What every ``IContainers`` tells of its engine, and does while it is gone or hangs."""

from __future__ import annotations

from flynnhost.errors import EngineUnavailable, PullFailed
from flynnhost.interfaces import LogQuery
from flynnhost.testing.container_contract import failing
from flynnhost.testing.container_process import Program
from flynnhost.testing.container_rig import (
    ContainersRig,
    EngineRig,
    EventRecorder,
    OutputRecorder,
    contract,
)


class ContainerEventsContract:
    """Subclasses have a fixture ``rig`` that gives a ``ContainersRig``."""

    @contract
    async def test_life_of_a_container(self, rig: ContainersRig) -> None:
        """What happens to a container is heard in order, with its labels."""
        listener = EventRecorder()
        watch = rig.containers.watch(rig.labels, listener)
        await rig.until(lambda: listener.engine == ["connected"])
        container_id = await rig.started(Program(exits_after=0.1, exit_code=1))
        await rig.until(lambda: "die" in listener.actions(container_id))
        await rig.containers.remove(container_id)
        await rig.until(lambda: "destroy" in listener.actions(container_id))
        told = [each for each in listener.actions(container_id) if each in _ACTIONS]
        assert told == ["create", "start", "die", "destroy"]
        assert all(dict(labels) == dict(rig.labels) for labels in listener.labels)
        await watch.stop()

    @contract
    async def test_other_labels(self, rig: ContainersRig) -> None:
        """Only what bears all the labels is heard of."""
        listener, everything = EventRecorder(), EventRecorder()
        watches = [
            rig.containers.watch({**rig.labels, "colour": "red"}, listener),
            rig.containers.watch(rig.labels, everything),
        ]
        await rig.until(lambda: listener.heard and everything.heard)
        plain = await rig.containers.create(rig.spec())
        red = await rig.containers.create(rig.spec(labels={**rig.labels, "colour": "red"}))
        await rig.until(lambda: listener.actions(red))
        assert listener.actions(plain) == []
        await rig.until(lambda: everything.actions(red))
        assert everything.actions(plain) == ["create"]
        for watch in watches:
            await watch.stop()

    @contract
    async def test_stop(self, rig: ContainersRig) -> None:
        """After the stop nothing is heard, and a second stop does no harm."""
        listener = EventRecorder()
        watch = rig.containers.watch(rig.labels, listener)
        await rig.until(lambda: listener.heard)
        stopped = watch.stop()
        await rig.containers.create(rig.spec())
        assert await stopped is None
        await watch.stop()
        assert listener.heard == [("connected",)]

    @contract
    async def test_stop_at_once(self, rig: ContainersRig) -> None:
        """A watch can be stopped before it has begun."""
        listener = EventRecorder()
        await rig.containers.watch(rig.labels, listener).stop()
        await rig.pass_time(0.2)
        assert listener.heard == []


class EngineLossContract:
    """Subclasses have a fixture ``rig`` that gives an ``EngineRig``, its engine up."""

    @contract
    async def test_about(self, rig: EngineRig) -> None:
        """An engine says what it is, unless it is gone."""
        facts = await rig.containers.about()
        assert facts.version
        assert facts.api_version.startswith("1.")
        assert facts.root_dir.startswith("/")
        rig.go_down()
        await failing(rig.containers.about(), EngineUnavailable)

    @contract
    async def test_gone(self, rig: EngineRig) -> None:
        """While the engine is gone all calls fail; when it is back they work."""
        spec, container_id = rig.spec(), await rig.containers.create(rig.spec())
        rig.go_down()
        for call in (
            rig.containers.ping(),
            rig.containers.create(spec),
            rig.containers.start(container_id),
            rig.containers.inspect(container_id),
            rig.containers.kill(container_id, 15),
            rig.containers.remove(container_id),
            rig.containers.list_containers(rig.labels),
            rig.containers.logs(container_id, False, LogQuery(), OutputRecorder()),
            rig.containers.attach_output(container_id, False, OutputRecorder()),
            rig.containers.attach_input(container_id),
            rig.containers.resize(container_id, 10, 20),
            rig.containers.exec(container_id, rig.command(), OutputRecorder()),
            rig.containers.pull(rig.image, lambda _text: None),
        ):
            await failing(call, EngineUnavailable)
        rig.come_back()
        await rig.containers.ping()
        assert [each.id for each in await rig.containers.list_containers(rig.labels)] == [container_id]
        await rig.containers.create(spec)

    @contract
    async def test_hangs(self, rig: EngineRig) -> None:
        """While the engine hangs all calls fail after their deadline; then they work again."""
        spec, container_id = rig.spec(), await rig.containers.create(rig.spec())
        rig.hang()
        begun = rig.clock.seconds()
        calls = (
            rig.containers.ping(),
            rig.containers.create(spec),
            rig.containers.start(container_id),
            rig.containers.inspect(container_id),
            rig.containers.remove(container_id),
            rig.containers.list_containers(rig.labels),
            rig.containers.logs(container_id, False, LogQuery(), OutputRecorder()),
            rig.containers.attach_output(container_id, False, OutputRecorder()),
            rig.containers.attach_input(container_id),
            rig.containers.resize(container_id, 10, 20),
            rig.containers.exec(container_id, rig.command(), OutputRecorder()),
        )
        for call in calls:
            await failing(call, EngineUnavailable)
        assert rig.clock.seconds() - begun < 20
        rig.come_back()
        await rig.containers.ping()
        await rig.containers.list_containers(rig.labels)

    @contract
    async def test_pull_hangs(self, rig: EngineRig) -> None:
        """A pull through an engine that hangs fails when nothing came for long enough."""
        image = rig.pullable()
        rig.hang()
        with_either = (PullFailed, EngineUnavailable)
        try:
            await rig.containers.pull(image, lambda _text: None)
        except with_either:
            pass
        else:
            raise AssertionError("it was pulled by nobody")
        rig.come_back()

    @contract
    async def test_close_while_it_hangs(self, rig: EngineRig) -> None:
        """Even then the end comes within seconds, and lets everyone go who waits."""
        listener = EventRecorder()
        rig.containers.watch(rig.labels, listener)
        await rig.until(lambda: listener.heard)
        rig.hang()
        waiting = [rig.containers.ping(), rig.containers.list_containers(rig.labels)]
        begun = rig.clock.seconds()
        await rig.containers.close()
        for call in waiting:
            await failing(call, EngineUnavailable)
        assert rig.clock.seconds() - begun < 3
        rig.come_back()

    @contract
    async def test_watch_through_a_loss(self, rig: EngineRig) -> None:
        """A watch tells once of the loss, once of the return, and then of what happens."""
        listener = EventRecorder()
        watch = rig.containers.watch(rig.labels, listener)
        await rig.until(lambda: listener.engine == ["connected"])
        rig.go_down()
        await rig.until(lambda: listener.engine == ["connected", "lost"])
        await rig.pass_time(1)
        rig.come_back()
        await rig.until(lambda: len(listener.engine) > 2)
        container_id = await rig.containers.create(rig.spec())
        await rig.until(lambda: "create" in listener.actions(container_id))
        assert listener.engine == ["connected", "lost", "connected"]
        await watch.stop()

    @contract
    async def test_watch_before_the_engine(self, rig: EngineRig) -> None:
        """A watch can begin before the engine does; it tells once that it is not there."""
        rig.go_down()
        listener = EventRecorder()
        watch = rig.containers.watch(rig.labels, listener)
        await rig.until(lambda: listener.heard)
        await rig.pass_time(1)
        rig.come_back()
        await rig.until(lambda: len(listener.engine) > 1)
        assert listener.engine == ["lost", "connected"]
        await watch.stop()

    @contract
    async def test_stop_watch_while_gone(self, rig: EngineRig) -> None:
        """A watch that tries to connect can be stopped at once."""
        rig.go_down()
        listener = EventRecorder()
        watch = rig.containers.watch(rig.labels, listener)
        await rig.until(lambda: listener.heard)
        begun = rig.clock.seconds()
        await watch.stop()
        assert rig.clock.seconds() - begun < 3
        rig.come_back()
        await rig.pass_time(0.5)
        assert listener.engine == ["lost"]

    @contract
    async def test_stop_watch_while_it_hangs(self, rig: EngineRig) -> None:
        """A watch whose connection says nothing can be stopped at once."""
        listener = EventRecorder()
        watch = rig.containers.watch(rig.labels, listener)
        await rig.until(lambda: listener.heard)
        rig.hang()
        begun = rig.clock.seconds()
        await watch.stop()
        assert rig.clock.seconds() - begun < 3
        rig.come_back()

    @contract
    async def test_streams_while_it_is_gone(self, rig: EngineRig) -> None:
        """All streams end, how a command ends is not known, and a closed one is ended all the same."""
        container_id = await rig.started(Program(reads_input=True), stdin=True)
        attached, ran = OutputRecorder(), OutputRecorder()
        await attached.attach(rig, container_id)
        way = await rig.containers.attach_input(container_id)
        execution = await rig.containers.exec(container_id, rig.command(Program()), ran)
        status = execution.exit_status()
        rig.go_down()
        await way.when_closed()
        await failing(status, EngineUnavailable)
        await failing(execution.exit_status(), EngineUnavailable)
        await rig.until(lambda: attached.ended and ran.ended)
        assert (attached.error, ran.error) == (None, None)
        execution.close()
        await execution.when_closed()
        rig.come_back()

    @contract
    async def test_close_a_command_while_it_hangs(self, rig: EngineRig) -> None:
        """A command can be ended without the engine."""
        container_id = await rig.started()
        execution = await rig.containers.exec(container_id, rig.command(Program()), OutputRecorder())
        rig.hang()
        begun = rig.clock.seconds()
        execution.close()
        await execution.when_closed()
        assert rig.clock.seconds() - begun < 3
        rig.come_back()
        await rig.until_it(lambda: rig.commands_left(container_id), 0)

    @contract
    async def test_output_breaks_off(self, rig: EngineRig) -> None:
        """Who follows output hears that it may be incomplete when the engine is gone."""
        container_id = await rig.started(Program(output=((1, b"first\n"),)))
        receiver = OutputRecorder()
        await receiver.follow(rig, container_id, LogQuery(follow=True))
        await rig.until(lambda: receiver.pieces)
        rig.go_down()
        await rig.until(lambda: receiver.ended)
        assert isinstance(receiver.error, EngineUnavailable)
        rig.come_back()


_ACTIONS = ("create", "start", "die", "destroy")
