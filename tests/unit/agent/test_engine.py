"""What is known of the container engine itself."""

from __future__ import annotations

from flynnhost.agent.engine import PING_INTERVAL
from flynnhost.errors import EngineRefused
from flynnhost.interfaces import EngineFacts
from flynnhost.testing.world import World


def test_asked_once() -> None:
    """An engine is asked what it is when it is there, and again when it may be another one."""
    world = World()
    world.containers.go_down()
    world.start()
    assert world.agent.engine_facts is None
    world.containers.come_back()
    world.pass_time(3 * PING_INTERVAL)
    assert world.agent.engine_facts == world.containers.facts
    asked = world.containers.calls["about"]
    world.pass_time(10 * PING_INTERVAL)
    assert world.containers.calls["about"] == asked
    world.containers.go_down()
    world.pass_time(PING_INTERVAL)
    assert world.agent.engine_facts == world.containers.facts
    world.containers.facts = EngineFacts("27.0.0")
    world.containers.come_back()
    world.pass_time(3 * PING_INTERVAL)
    assert world.agent.engine_facts == EngineFacts("27.0.0")


def test_refused() -> None:
    """One that does not say is asked again, and serves all the same."""
    world = World()
    world.containers.fail("about", EngineRefused("no"))
    world.start()
    assert (world.agent.engine_facts, world.agent.readiness()[1].ok) == (None, True)
    world.pass_time(PING_INTERVAL)
    assert world.agent.engine_facts == world.containers.facts
