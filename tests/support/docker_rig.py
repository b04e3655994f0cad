"""Docker as a rig for the contract of container engines."""

from __future__ import annotations

import itertools
import shlex
import threading
from collections.abc import Coroutine, Mapping
from typing import Any

import attrs
import docker
import pytest_twisted
from twisted.internet.defer import Deferred

from flynnhost.containers.client import DockerClient
from flynnhost.interfaces import ContainerSpec, ExecSpec
from flynnhost.testing.container_process import Program
from flynnhost.testing.container_rig import ContainersRig, EngineRig
from tests.support.busybox import IMAGE
from tests.support.dockerd import Dockerd
from tests.support.registry import Registry
from tests.support.waiting import until

_numbers = itertools.count()


class DockerRig(ContainersRig):
    """Runs tests on the global reactor, with processes that are shell scripts."""

    image = IMAGE

    def __init__(
        self,
        reactor: Any,
        url: str,
        labels: Mapping[str, str],
        registry: Registry | None,
        **client: Any,
    ) -> None:
        self.clock = reactor
        self.url = url
        self.labels = labels
        self._registry = registry
        self.containers = DockerClient(reactor, url, **client)

    def run(self, test: Coroutine[Any, Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(test)

    def behaving(self, spec: ContainerSpec, program: Program) -> ContainerSpec:
        if program.refused:
            return attrs.evolve(spec, entry_point=("/no-such-program",))
        return attrs.evolve(spec, cmd=("sh", "-c", shell_script(program)))

    def commanding(self, command: ExecSpec, program: Program) -> ExecSpec:
        if program.refused:
            return attrs.evolve(command, cmd=("/no-such-program",))
        return attrs.evolve(command, cmd=("sh", "-c", shell_script(program)))

    async def commands_left(self, container_id: str) -> int:
        client = docker.APIClient(self.url)
        try:
            own = str(client.inspect_container(container_id)["State"]["Pid"])
            found = client.top(container_id, ps_args="-eo pid,sid,args")["Processes"]
        finally:
            client.close()
        return sum(session != own for _, session, _ in found)

    def pullable(self) -> str:
        return self.pushed(IMAGE)

    def not_pullable(self) -> str:
        return f"{self._registry_address()}/there/is-no-such-image:1"

    def pushed(self, image: str) -> str:
        """Move an image under a new name to the registry; the old name remains."""
        repository = f"{self._registry_address()}/pulled/t{next(_numbers)}"
        client = docker.APIClient(self.url)
        try:
            client.tag(image, repository, "1")
            lines = client.push(repository, "1", stream=True, decode=True)
            errors = [line["error"] for line in lines if "error" in line]
            assert not errors, errors
            client.remove_image(f"{repository}:1")
        finally:
            client.close()
        return f"{repository}:1"

    def close(self) -> None:
        """Close the client and check that its threads are gone. Not for use within a test."""
        pytest_twisted.blockon(Deferred.fromCoroutine(self._close()))

    async def _close(self) -> None:
        await self.containers.close()
        await until(self.clock, lambda: not docker_threads(), "the threads to end")

    def _registry_address(self) -> str:
        assert self._registry is not None, "this rig has no registry"
        return self._registry.address


class DockerEngineRig(DockerRig, EngineRig):
    """A rig on a dockerd of its own."""

    def __init__(self, reactor: Any, engine: Dockerd, labels: Mapping[str, str], **client: Any) -> None:
        super().__init__(reactor, engine.url, labels, None, **client)
        self.engine = engine
        self._down = self._hanging = False

    def pullable(self) -> str:
        return "127.0.0.1:9/nobody/listens:1"

    def go_down(self) -> None:
        self.engine.kill()
        self._down = True

    def hang(self) -> None:
        self.engine.pause()
        self._hanging = True

    def come_back(self) -> None:
        if self._hanging:
            self.engine.go_on()
        if self._down:
            self.engine.start()
        self._down = self._hanging = False


def docker_threads() -> list[str]:
    """The names of the threads that clients of Docker have."""
    return [thread.name for thread in threading.enumerate() if "docker-" in thread.name]


def shell_script(program: Program) -> str:
    """A script for a shell that does what the program says."""
    lines = [f"trap 'exit {code}' {signal}" for signal, code in program.on_signal.items() if signal != 9]
    lines += [f"trap '' {signal}" for signal in (1, 2, 15) if signal not in program.on_signal]
    for stream, data in program.output:
        text = "".join(map(_escaped, data))
        lines.append(f"printf {shlex.quote(text)} >&{stream}")
    if program.reads_input:
        # In the background the shell would give it no input, and in the foreground heed no signals.
        lines.append("exec 3<&0; cat <&3 & wait $!")
    elif program.exits_after is None:
        lines.append("while :; do sleep 3600 & wait $!; done")
    elif program.exits_after:
        lines.append(f"sleep {program.exits_after} & wait $!")
    lines.append(f"exit {program.exit_code}")
    return "\n".join(lines)


def _escaped(byte: int) -> str:
    """A byte in the format of printf."""
    character = chr(byte)
    return character if character.isascii() and (character.isalnum() or character == " ") else f"\\{byte:03o}"
