"""The host itself: its process, its journal, and whether others reach it."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from flynnhost.cli import words
from flynnhost.cli.checks.finding import Finding, failed, ok, warning
from flynnhost.cli.checks.subject import Subject, ask
from flynnhost.client.address import HostAddress
from flynnhost.client.errors import BadAddress, BadAnswer, ClientError
from flynnhost.client.status import HostStatus

FEW_FILES = 4096
"""A host that may open no more than this can't lead many."""

_FULL = 0.8


def check_host(subject: Subject) -> Iterator[Finding]:
    """Whether it answers, and can run jobs."""
    status = subject.status
    if status is None:
        yield _not_there(subject)
        return
    lasts = words.since(status.since, words.now())
    text = f"{status.id} answers at {subject.address.url}: version {status.version or 'unknown'}"
    yield ok("host", f"{text}, up for {lasts}" if lasts else text)
    for check in status.checks:
        if check.name == "journal":
            yield _journal(check.ok, check.detail)
        elif check.name != "engine" and not check.ok:  # of the engine there is more to be told
            yield warning(
                check.name, check.detail, "It is not ready for jobs yet: look again in some seconds."
            )
    if status.draining:
        yield warning("draining", "it gets no more jobs", f"'flynn-host undrain {status.id}' ends that.")


def _journal(is_ok: bool, detail: str) -> Finding:
    if is_ok:
        return ok("journal", detail)
    return failed("journal", detail, "Look at the host's log, and at the disk of its state directory.")


def _not_there(subject: Subject) -> Finding:
    if isinstance(subject.problem, BadAnswer):
        return failed(
            "host",
            str(subject.problem),
            "Another program listens there: name the host with --host-url, or see 'ss -ltnp'.",
        )
    advice = (
        "Start it with 'flynn-host daemon' or as the service that you have made of it; if it listens"
        " elsewhere,"
        " name that with --host-url."
        if subject.here
        else "Is it running, and does a firewall let you through?"
    )
    return failed("host", f"none answers: {subject.problem}", advice)


def check_process(subject: Subject) -> Iterator[Finding]:
    """What the process uses, and what it may."""
    if subject.status is None:
        if subject.here:
            yield from _own_limit()
        return
    process = subject.status.process
    if process.open_files_limit:
        yield _files(process.open_files, process.open_files_limit)
    if process.memory_bytes:
        yield _memory(process.memory_bytes, (subject.status.resources or {}).get("memory", 0))


def _own_limit() -> Iterator[Finding]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit != resource.RLIM_INFINITY and limit < FEW_FILES:
        yield _few_files(limit)
    else:
        yield ok("open files", f"a process started here may open {limit}")


def _files(opened: int, limit: int) -> Finding:
    if opened > limit * _FULL:
        return warning(
            "open files",
            f"{opened} of {limit} are open",
            "Let it open more: LimitNOFILE in its systemd unit, or 'ulimit -Hn' before it is started.",
        )
    if limit < FEW_FILES:
        return _few_files(limit)
    return ok("open files", f"{opened} of {limit}")


def _few_files(limit: int) -> Finding:
    return warning(
        "open files",
        f"at most {limit}: each host is one to the leader, and each reader of a stream",
        f"Let it open {FEW_FILES} or more: LimitNOFILE in its systemd unit, or 'ulimit -Hn' before it"
        " is started.",
    )


def _memory(used: int, there_is: int) -> Finding:
    text = f"flynn-host uses {words.size(used)}"
    if there_is and used > there_is / 4:
        return warning(
            "memory",
            f"{text} of {words.size(there_is)}",
            "More than it should; does it keep very many jobs? Its log and 'flynn-host ps -a' tell.",
        )
    return ok("memory", f"{text} of {words.size(there_is)}" if there_is else text)


def check_external(subject: Subject) -> Iterator[Finding]:
    """Whether it is reached where others are told that it is."""
    status = subject.status
    if status is None or not status.addr:
        return
    try:
        reached = ask(HostAddress.parse(status.addr)).status
    except BadAddress as e:
        yield failed("address", str(e), "Give the host a --listen with a TCP port, and an --external.")
        return
    except ClientError as e:
        yield _not_reached(status, e)
        return
    if reached.id == status.id:
        yield ok("address", f"it is reached at {status.addr}, as others are told")
    else:
        yield failed(
            "address",
            f"at {status.addr}, where others are told that it is, host {reached.id} answers",
            "Give it an --external address of its own.",
        )


def _not_reached(status: HostStatus, problem: ClientError) -> Finding:
    text = f"it is not reached at {status.addr}, as others are told: {problem}"
    if status.solo:
        return ok("address", f"{text}. A host that is the whole cluster needs not be.")
    listens = ", ".join(status.listen)
    return failed(
        "address",
        text,
        f"It listens on {listens}: --external and the first --listen must be where the others reach"
        " it, and no"
        " firewall between them.",
    )
