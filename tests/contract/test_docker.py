"""Docker keeps the contract of container engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flynnhost.agent.spec import host_labels
from flynnhost.containers.events import Backoff
from flynnhost.testing.container_attach_contract import ContainerAttachContract
from flynnhost.testing.container_contract import ContainersContract
from flynnhost.testing.container_engine_contract import ContainerEventsContract, EngineLossContract
from flynnhost.testing.container_exec_contract import ContainerExecContract
from flynnhost.testing.container_output_contract import ContainerOutputContract
from tests.support.docker_rig import DockerEngineRig
from tests.support.dockerd import Dockerd

pytestmark = pytest.mark.docker


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


@pytest.fixture(scope="module")
def engine(own_dockerd: Callable[..., Dockerd]) -> Dockerd:
    return own_dockerd()


class TestEngineLoss(EngineLossContract):
    @pytest.fixture
    def rig(self, engine: Dockerd, host_id: str, clean_reactor: Any) -> Iterator[DockerEngineRig]:
        rig = DockerEngineRig(
            clean_reactor,
            engine,
            host_labels(host_id),
            call_timeout=5,
            control_timeout=2,
            ping_timeout=1,
            pull_inactivity=2,
            output_patience=2,
            backoff=Backoff(first=0.05, limit=0.3),
        )
        yield rig
        rig.come_back()
        rig.close()
