# ruff: noqa: S101 - these are tests
"""What every ``IContainers`` does, real or not: the calls that concern one container."""

from __future__ import annotations

import socket
from collections.abc import Awaitable
from datetime import timedelta
from typing import TypeVar

import attrs
import pytest
from twisted.internet.defer import CancelledError, gatherResults
from zope.interface.verify import verifyObject

from flynnhost.errors import (
    ContainerNotRunning,
    EngineRefused,
    EngineUnavailable,
    FlynnHostError,
    ImageMissing,
    NameTaken,
    NoSuchContainer,
    PortTaken,
    PullFailed,
)
from flynnhost.interfaces import IContainers, LogQuery, PublishedPort
from flynnhost.testing.container_process import Program
from flynnhost.testing.container_rig import ContainersRig, EventRecorder, OutputRecorder, contract

E = TypeVar("E", bound=Exception)

_ALL = LogQuery()


async def failing(call: Awaitable[object], kind: type[E]) -> E:
    """The error of this kind with which the call fails."""
    with pytest.raises(kind) as raised:
        await call
    return raised.value


async def fails_with(call: Awaitable[object], expected: FlynnHostError) -> None:
    """Check that the call fails with exactly this error."""
    error = await failing(call, type(expected))
    assert repr(error) == repr(expected)


class ContainersContract:
    """Subclasses have a fixture ``rig`` that gives a ``ContainersRig``."""

    def test_interface(self, rig: ContainersRig) -> None:
        """It has all that the interface names."""
        verifyObject(IContainers, rig.containers)

    @contract
    async def test_ping(self, rig: ContainersRig) -> None:
        """An engine that is there answers."""
        assert await rig.containers.ping() is None

    # --- create ---

    @contract
    async def test_create(self, rig: ContainersRig) -> None:
        """A new container is known by ID and by name, and does not run."""
        spec = rig.spec()
        container_id = await rig.containers.create(spec)
        state = await rig.containers.inspect(container_id)
        assert state == await rig.containers.inspect(spec.name)
        assert (state.id, state.name, state.running) == (container_id, spec.name, False)
        assert rig.labels.items() <= state.labels.items()
        assert (state.started_at, state.finished_at, state.pid) == (None, None, 0)

    @contract
    async def test_create_without_image(self, rig: ContainersRig) -> None:
        """An image that is not there is named in the error."""
        spec = rig.spec(image="no/such-image:1")
        await fails_with(rig.containers.create(spec), ImageMissing("no/such-image:1"))

    @contract
    async def test_name_taken(self, rig: ContainersRig) -> None:
        """A name is given once; who finds it taken can adopt the container and start it."""
        spec = rig.spec()
        container_id = await rig.containers.create(spec)
        await fails_with(rig.containers.create(spec), NameTaken(spec.name))
        found = await rig.containers.inspect(spec.name)
        assert found.id == container_id
        await rig.containers.start(found.id)
        assert (await rig.containers.inspect(spec.name)).running

    @contract
    async def test_many_at_once(self, rig: ContainersRig) -> None:
        """Calls made at the same time all come to their end."""
        specs = [rig.spec() for _ in range(20)]
        made = await gatherResults([rig.containers.create(spec) for spec in specs])
        found = await gatherResults([rig.containers.inspect(spec.name) for spec in specs])
        assert [state.id for state in found] == made

    # --- start ---

    @contract
    async def test_start(self, rig: ContainersRig) -> None:
        """A started container runs since a known time, with a process and an address."""
        state = await rig.containers.inspect(await rig.started())
        assert state.running
        assert state.started_at is not None
        assert state.started_at.utcoffset() == timedelta(0)
        assert state.pid > 0
        assert state.internal_ip.count(".") == 3
        assert (state.finished_at, state.error) == (None, "")

    @contract
    async def test_start_again(self, rig: ContainersRig) -> None:
        """To start a container that runs changes nothing."""
        container_id = await rig.started()
        before = await rig.containers.inspect(container_id)
        await rig.containers.start(container_id)
        assert await rig.containers.inspect(container_id) == before

    @contract
    async def test_start_unknown(self, rig: ContainersRig) -> None:
        """What is not there can't be started."""
        await fails_with(rig.containers.start("nowhere"), NoSuchContainer("nowhere"))

    @contract
    async def test_start_refused(self, rig: ContainersRig) -> None:
        """Why a process can't be started is told, and the container remains."""
        container_id = await rig.containers.create(rig.spec(Program(refused="no such program")))
        error = await failing(rig.containers.start(container_id), EngineRefused)
        assert "no such" in str(error)
        state = await rig.containers.inspect(container_id)
        assert not state.running
        assert state.started_at is None
        assert "no such" in state.error

    @contract
    async def test_port_taken(self, rig: ContainersRig) -> None:
        """Two containers can't publish one port; the second remains, not started."""
        number = _free_port()
        ports = (PublishedPort(80, "tcp", "127.0.0.1", number),)
        await rig.started(ports=ports)
        second = await rig.containers.create(rig.spec(ports=ports))
        assert str(number) in str(await failing(rig.containers.start(second), PortTaken))
        assert not (await rig.containers.inspect(second)).running

    @contract
    async def test_no_ip_on_host_network(self, rig: ContainersRig) -> None:
        """A container in the host's network has no address of its own."""
        container_id = await rig.started(host_network=True)
        assert (await rig.containers.inspect(container_id)).internal_ip == ""

    # --- the end of processes ---

    @contract
    async def test_exit_code(self, rig: ContainersRig) -> None:
        """The exit code and the times are known after the end."""
        container_id = await rig.started(Program(exits_after=0.1, exit_code=3))
        state = await rig.ended(container_id)
        assert (state.exit_code, state.oom_killed, state.pid) == (3, False, 0)
        assert state.started_at is not None
        assert state.finished_at is not None
        assert state.started_at <= state.finished_at

    @contract
    async def test_exit_at_once(self, rig: ContainersRig) -> None:
        """A process that ends before anyone looks has been started all the same."""
        state = await rig.ended(await rig.started(Program(exits_after=0)))
        assert state.started_at is not None
        assert state.exit_code == 0

    # --- inspect ---

    @contract
    async def test_inspect_unknown(self, rig: ContainersRig) -> None:
        """Nothing can be said of what is not there."""
        await fails_with(rig.containers.inspect("nowhere"), NoSuchContainer("nowhere"))

    # --- kill ---

    @contract
    async def test_signal(self, rig: ContainersRig) -> None:
        """A signal reaches the process."""
        container_id = await rig.started(Program(output=((1, b"ready\n"),), on_signal={15: 7}))
        await self._wait_for_output(rig, container_id)
        await rig.containers.kill(container_id, 15)
        assert (await rig.ended(container_id)).exit_code == 7

    @contract
    async def test_kill(self, rig: ContainersRig) -> None:
        """A killed process has the exit code of its death."""
        container_id = await rig.started()
        await rig.containers.kill(container_id, 9)
        state = await rig.ended(container_id)
        assert (state.exit_code, state.oom_killed) == (137, False)

    @contract
    async def test_kill_not_running(self, rig: ContainersRig) -> None:
        """There is nobody to signal before the start and after the end."""
        container_id = await rig.containers.create(rig.spec(Program(exits_after=0)))
        expected = ContainerNotRunning(container_id)
        await fails_with(rig.containers.kill(container_id, 15), expected)
        await rig.containers.start(container_id)
        await rig.ended(container_id)
        await fails_with(rig.containers.kill(container_id, 15), expected)

    @contract
    async def test_kill_unknown(self, rig: ContainersRig) -> None:
        """There is nobody to signal in what is not there."""
        await failing(rig.containers.kill("nowhere", 15), NoSuchContainer)

    # --- remove ---

    @contract
    async def test_remove(self, rig: ContainersRig) -> None:
        """A running container is ended and gone, and its name is free."""
        spec = rig.spec()
        container_id = await rig.containers.create(spec)
        await rig.containers.start(container_id)
        assert await rig.containers.remove(container_id) is None
        await failing(rig.containers.inspect(container_id), NoSuchContainer)
        assert await rig.containers.create(spec) != container_id

    @contract
    async def test_remove_again(self, rig: ContainersRig) -> None:
        """What is gone can be removed again, also by two at the same time."""
        container_id = await rig.started()
        await gatherResults([rig.containers.remove(container_id) for _ in range(4)])
        await failing(rig.containers.inspect(container_id), NoSuchContainer)
        await rig.containers.remove(container_id)

    # --- list ---

    @contract
    async def test_list(self, rig: ContainersRig) -> None:
        """A listing has what bears all the labels, running or not, and nothing else."""
        extra = {**rig.labels, "colour": "red=blue"}
        waiting = await rig.containers.create(rig.spec(labels=extra))
        running = await rig.started(labels=extra)
        ended = await rig.started(Program(exits_after=0), labels=extra)
        await rig.containers.create(rig.spec(labels={**rig.labels, "colour": "red"}))
        await rig.ended(ended)
        found = await rig.containers.list_containers(extra)
        assert {each.id: each.running for each in found} == {waiting: False, running: True, ended: False}
        assert all(extra.items() <= each.labels.items() for each in found)
        assert len(await rig.containers.list_containers(rig.labels)) == 4
        names = {(await rig.containers.inspect(each.id)).name for each in found}
        assert names == {each.name for each in found}

    @contract
    async def test_list_nothing(self, rig: ContainersRig) -> None:
        """Labels that nobody has give an empty list."""
        assert await rig.containers.list_containers({"nobody": "has-this"}) == []

    # --- pull ---

    @contract
    async def test_pull(self, rig: ContainersRig) -> None:
        """A pulled image is there to be used; how far it is is told."""
        image = rig.pullable()
        texts: list[str] = []
        spec = rig.spec(image=image)
        await failing(rig.containers.create(spec), ImageMissing)
        assert await rig.containers.pull(image, texts.append) is None
        await rig.containers.create(spec)
        assert texts
        assert all(text.startswith(f"pulling {image}") for text in texts)

    @contract
    async def test_pull_what_is_there(self, rig: ContainersRig) -> None:
        """To pull an image again does no harm."""
        image = rig.pullable()
        await gatherResults([rig.containers.pull(image, lambda _text: None) for _ in range(3)])
        await rig.containers.pull(image, lambda _text: None)

    @contract
    async def test_pull_fails(self, rig: ContainersRig) -> None:
        """Why an image can't be had is told, with its name."""
        image = rig.not_pullable()
        error = await failing(rig.containers.pull(image, lambda _text: None), PullFailed)
        assert error.image == image
        assert error.reason

    # --- the end of it all ---

    @contract
    async def test_cancel(self, rig: ContainersRig) -> None:
        """Who does not want to wait any more need not, and nothing else is disturbed."""
        call = rig.containers.list_containers(rig.labels)
        if not call.called:
            call.cancel()
            await failing(call, CancelledError)
        await rig.containers.ping()

    @contract
    async def test_close(self, rig: ContainersRig) -> None:
        """After the end every call fails, those under way too, and nobody hears anything."""
        container_id, listener, receiver = await rig.started(), EventRecorder(), OutputRecorder()
        rig.containers.watch(rig.labels, listener)
        await rig.until(lambda: listener.heard)
        await receiver.follow(rig, container_id, attrs.evolve(_ALL, follow=True))
        under_way = rig.containers.inspect(container_id)
        under_way.addErrback(lambda failure: failure.trap(EngineUnavailable))
        assert await rig.containers.close() is None
        await under_way
        await rig.until(lambda: receiver.ended)
        assert isinstance(receiver.error, EngineUnavailable)
        assert listener.engine == ["connected"]
        for call in (
            rig.containers.ping(),
            rig.containers.inspect(container_id),
            rig.containers.pull(rig.image, lambda _text: None),
            rig.containers.logs(container_id, False, _ALL, OutputRecorder()),
        ):
            await failing(call, EngineUnavailable)
        await rig.containers.close()

    async def _wait_for_output(self, rig: ContainersRig, container_id: str) -> None:
        receiver = OutputRecorder()
        await receiver.follow(rig, container_id, attrs.evolve(_ALL, follow=True))
        await rig.until(lambda: receiver.pieces)
        assert receiver.stream is not None
        receiver.stream.stopProducing()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
