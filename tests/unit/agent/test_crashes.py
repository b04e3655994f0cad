"""A host that is killed between any two steps, and started again, keeps its promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flynnhost.interfaces import ContainerSpec
from flynnhost.model import EventKind, JobStatus, Port
from flynnhost.testing.container_process import Program
from flynnhost.testing.containers import PullScript
from flynnhost.testing.world import World, a_job

RUNS = Program()
SHORT = Program(exits_after=0, exit_code=6)
REFUSED = Program(refused="no such file")

PROGRAMS: dict[str, Callable[[ContainerSpec], Program]] = {
    "runs": lambda _: RUNS,
    "short": lambda _: SHORT,
    "refused": lambda _: REFUSED,
    "mixed": lambda spec: (RUNS, SHORT, REFUSED)[int(spec.name[-1]) % 3],
}


def _expected(program: Program) -> JobStatus:
    if program.refused:
        return JobStatus.FAILED
    return JobStatus.RUNNING if program.exits_after is None else JobStatus.CRASHED


def _scenario(programs: str, end_at: int, disturb: Callable[[World], None]) -> World:
    """Accept three jobs in a run that ends at a step, then run on with what is left."""
    world = World()
    world.containers.programs = PROGRAMS[programs]
    world.containers.every_image = False
    world.containers.pulls["busybox:latest"] = PullScript(seconds=1)
    world.start(end_at=end_at)
    acknowledged: list[object] = []
    jobs = [a_job(f"j{n}", ports=(Port(),)) for n in range(3)]
    world.agent.accept(jobs, 1).addCallbacks(acknowledged.append, lambda _: None)
    world.pass_time(3)
    disturb(world)
    world.pass_time(3)
    if world.steps.ended:
        world.kill()
        world.pass_time(1)
        world.start()
        world.pass_time(40)
        known = set(world.agent.jobs())
        assert not acknowledged or known == {"j0", "j1", "j2"}, "an acknowledged job was lost"
        assert known in (set(), {"j0", "j1", "j2"}), "a batch was half done"
        world.accept(*jobs)  # the scheduler repeats what was not answered
        world.pass_time(40)
    return world


def _nothing(world: World) -> None:
    """Nothing else happens."""


def _stop_one(world: World) -> None:
    world.forget(world.agent.stop_job("j0"))


def _engine_down(world: World) -> None:
    world.containers.go_down()
    world.pass_time(1)
    world.containers.come_back()


DISTURBANCES = {"nothing": _nothing, "stop": _stop_one, "engine down": _engine_down}


@pytest.mark.parametrize("disturbance", DISTURBANCES)
@pytest.mark.parametrize("programs", PROGRAMS)
def test_killed_at_any_step(programs: str, disturbance: str) -> None:
    """Each job exists exactly once afterwards, or has failed with a reason; none has run twice."""
    disturb = DISTURBANCES[disturbance]
    steps = len(_scenario(programs, 0, disturb).steps.names)
    assert steps > 20
    for step in range(1, steps + 1):
        world = _scenario(programs, step, disturb)
        _check(world, programs, f"killed at step {step} of {steps}", stopped=disturb is _stop_one)


def _check(world: World, programs: str, when: str, *, stopped: bool) -> None:
    for n in range(3):
        job_id = f"j{n}"
        job = world.job(job_id)
        container = [c for c in world.containers.containers.values() if c.spec.name == f"flynn-{job_id}"]
        expected = _expected(PROGRAMS[programs](world.agent._runner._specs.spec(job)))
        assert world.starts(job_id) <= 1, f"{job_id} ran twice, {when}"
        if stopped and n == 0:
            assert job.status in (expected, JobStatus.CRASHED, JobStatus.FAILED), when
        else:
            assert job.status is expected, f"{job_id} {job.error}, {when}"
        assert len(container) == (0 if job.status is JobStatus.FAILED else 1), f"{job_id}, {when}"
        assert job.status is not JobStatus.FAILED or job.error, when
        assert not container or container[0].running is (job.status is JobStatus.RUNNING), f"{job_id}, {when}"
        _check_events(world.events(job_id), when)


def _check_events(kinds: list[EventKind], when: str) -> None:
    """In order and once each; but a start that was told and not yet written is told by the next run too."""
    order = [EventKind.CREATE, EventKind.START, EventKind.STOP, EventKind.ERROR]
    assert kinds == sorted(kinds, key=order.index), f"{kinds}, {when}"
    assert all(kinds.count(kind) == 1 for kind in set(kinds) - {EventKind.START}), f"{kinds}, {when}"
    assert not {EventKind.STOP, EventKind.ERROR} <= set(kinds), f"{kinds}, {when}"


def test_container_removed_while_the_host_was_down() -> None:
    """Wherever the host was killed, a job whose container somebody removed is not run a second time."""
    steps = len(_scenario("short", 0, _nothing).steps.names)
    lost = 0
    for step in range(1, steps + 1):
        world = World()
        world.containers.programs = PROGRAMS["short"]
        world.start(end_at=step)
        world.forget(world.agent.accept([a_job("j0")], 1))
        world.pass_time(3)
        world.kill()
        for container_id in list(world.containers.containers):
            world.containers.vanish(container_id)
        world.start()
        world.accept(a_job("j0"))
        world.pass_time(40)
        assert world.starts("j0") <= 1, f"ran twice, killed at step {step}"
        assert world.job("j0").ended
        lost += "removed" in world.job("j0").error
    assert lost > 1
