"""The engine in memory keeps the contract of container engines."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from flynnhost.interfaces import ContainerSpec, ExecSpec
from flynnhost.testing.container_attach_contract import ContainerAttachContract
from flynnhost.testing.container_contract import ContainersContract
from flynnhost.testing.container_engine_contract import ContainerEventsContract, EngineLossContract
from flynnhost.testing.container_exec_contract import ContainerExecContract
from flynnhost.testing.container_output_contract import ContainerOutputContract
from flynnhost.testing.container_process import Program
from flynnhost.testing.container_rig import EngineRig
from flynnhost.testing.containers import FakeContainers, PullScript


class FakeRig(EngineRig):
    """Runs tests on a clock, with calls that take as long as ``delay``."""

    clock: Clock
    image = "busybox:latest"

    def __init__(self, delay: float) -> None:
        self.clock = Clock()
        self.labels = {"io.flynn.host": "here"}
        self._programs: dict[str, Program] = {}
        self._commands: dict[tuple[str, ...], Program] = {}
        methods = ("ping", "create", "start", "inspect", "kill", "remove", "list_containers", "logs", "event")
        streams = ("attach_output", "attach_input", "resize", "exec")
        self.containers = FakeContainers(
            self.clock,
            programs=lambda spec: self._programs[spec.name],
            commands=lambda _spec, command: self._commands[command.cmd],
            deadline=5,
            inactivity=5,
            every_image=False,
            images={self.image},
            delays=dict.fromkeys((*methods, *streams, "reconnect"), delay),
        )

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        ended: list[Failure | None] = []
        Deferred.fromCoroutine(test).addBoth(ended.append)
        while not ended:
            assert self.clock.seconds() < 300, "the test does not come to an end"
            self.clock.advance(0.01)
        if ended[0] is not None:
            ended[0].raiseException()

    def behaving(self, spec: ContainerSpec, program: Program) -> ContainerSpec:
        self._programs[spec.name] = program
        return spec

    def commanding(self, command: ExecSpec, program: Program) -> ExecSpec:
        self._commands[command.cmd] = program
        return command

    async def commands_left(self, container_id: str) -> int:
        executions = self.containers.executions
        return sum(each.running for each in executions if each.container_id == container_id)

    def pullable(self) -> str:
        self.containers.pulls["registry/thing:1"] = PullScript(seconds=0.5)
        return "registry/thing:1"

    def not_pullable(self) -> str:
        return "registry/nothing:1"

    def go_down(self) -> None:
        self.containers.go_down()

    def hang(self) -> None:
        self.containers.hang()

    def come_back(self) -> None:
        self.containers.come_back()


@pytest.fixture(params=[0.0, 0.05], ids=["at once", "delayed"])
def rig(request: pytest.FixtureRequest) -> FakeRig:
    return FakeRig(request.param)


class TestContainers(ContainersContract):
    pass


class TestOutput(ContainerOutputContract):
    pass


class TestAttach(ContainerAttachContract):
    pass


class TestExec(ContainerExecContract):
    pass


class TestEvents(ContainerEventsContract):
    pass


class TestEngineLoss(EngineLossContract):
    pass
