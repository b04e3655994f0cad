"""The container engine, and what it can do for jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from attrs import asdict

from flynnhost.cli.checks.finding import Finding, failed, ok, warning
from flynnhost.cli.checks.subject import ASK_WITHIN, Subject
from flynnhost.client.status import Engine
from flynnhost.errors import EngineRefused, EngineUnavailable

_TESTED_FROM = (20, 10)


def check_engine(subject: Subject) -> Iterator[Finding]:
    """Whether the engine answers, and what it lacks."""
    if subject.status is not None:
        engine = subject.status.engine
        told = next((check for check in subject.status.checks if check.name == "engine"), None)
        if told is not None and not told.ok:
            yield _gone(engine.url, told.detail)
            return
    elif subject.here:
        url = subject.options.docker
        path = url.removeprefix("unix://")
        if path != url and Path(path).exists() and not os.access(path, os.W_OK):
            yield warning(
                "engine", f"you may not ask the one at {url}", "Run doctor as root, or join the group docker."
            )
            return
        try:
            engine = _ask(url)
        except (EngineUnavailable, EngineRefused) as e:
            yield _gone(url, str(e))
            return
    else:
        return
    if not engine.version:
        yield ok("engine", f"the one at {engine.url} answers; it has not said yet what it is")
        return
    yield _version(engine)
    yield _limits(engine)
    yield from _network(engine)


def _ask(url: str) -> Engine:
    # docker-py takes as long to be imported as most commands take for all.
    from flynnhost.containers.address import EngineAddress
    from flynnhost.containers.calls import EngineCalls
    from flynnhost.containers.session import EngineSessions

    facts = EngineCalls(EngineSessions(EngineAddress.parse(url), ASK_WITHIN)).thd_about()
    return Engine(url=url, **asdict(facts))


def _gone(url: str, reason: str) -> Finding:
    return failed(
        "engine",
        f"Docker at {url} does not serve: {reason}",
        "Is it running ('systemctl status docker', 'docker version'), and is this its address (--docker)?",
    )


def _version(engine: Engine) -> Finding:
    text = f"Docker {engine.version}, API {engine.api_version}, at {engine.url}"
    if _numbers(engine.version) < _TESTED_FROM:
        return warning("engine", f"{text} is older than any that was tried", "Use Docker 20.10 or later.")
    return ok("engine", text)


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split("-")[0].split(".")
    return tuple(int(part) for part in parts if part.isdecimal())


def _limits(engine: Engine) -> Finding:
    limits = {"memory": engine.memory_limit, "cpu": engine.cpu_limit, "max_procs": engine.pids_limit}
    missing = [name for name, there in limits.items() if not there]
    cgroups = f"cgroups version {engine.cgroup_version}" if engine.cgroup_version else "cgroups"
    if not missing:
        return ok("limits", f"{cgroups} can limit what jobs use: {', '.join(limits)}")
    return warning(
        "limits",
        f"jobs' limits of {' and '.join(missing)} can't be kept: {cgroups} can't limit them",
        "Let the kernel have these controllers: cgroup_enable=memory on its command line, and all of"
        " them mounted.",
    )


def _network(engine: Engine) -> Iterator[Finding]:
    if not engine.ip_forwarding:
        yield warning(
            "network",
            "packets are not passed on between containers and other machines",
            "sysctl -w net.ipv4.ip_forward=1, and in /etc/sysctl.d for the next start of the machine.",
        )
    elif not engine.bridge_iptables:
        yield warning(
            "network",
            "iptables does not see what containers on one host send to each other",
            "modprobe br_netfilter, then sysctl -w net.bridge.bridge-nf-call-iptables=1.",
        )
    else:
        yield ok("network", "packets are passed on to containers")


def check_iptables(subject: Subject) -> Iterator[Finding]:
    """Whether ports of jobs can be published on this machine, as far as it can be seen."""
    status = subject.status
    url = status.engine.url if status is not None else subject.options.docker
    if not subject.here or not url.startswith("unix:"):
        return
    program = shutil.which("iptables", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        advice = "Install iptables, then restart Docker, unless it does without (--iptables=false)."
        yield warning("iptables", "is not installed: Docker needs it to publish the ports of jobs", advice)
        return
    if os.geteuid() != 0:
        return  # only root may ask it
    try:
        done = subprocess.run(  # noqa: S603
            [program, "-w", "2", "-t", "nat", "-n", "-L", "DOCKER"],
            capture_output=True,
            timeout=ASK_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield warning(
            "iptables", "does not answer", "Does another program hold its lock? See 'iptables -t nat -L'."
        )
        return
    if done.returncode == 0:
        yield ok("iptables", "has Docker's chain, by which ports of jobs are published")
    else:
        yield warning(
            "iptables",
            "does not have Docker's chain, by which ports of jobs are published",
            "If Docker runs with iptables, restart it: a firewall that was reloaded may have removed"
            " its rules.",
        )
