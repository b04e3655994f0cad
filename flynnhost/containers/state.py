"""What Docker says of containers, in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from flynnhost.interfaces import ContainerState, ContainerSummary, EngineFacts

_WITH_A_PROCESS = ("running", "paused", "restarting")


@frozen
class ExecState:
    """What the engine says of a command in a container.

    :param pid: of its process on the engine's machine; 0 if it never had one.
    :param exit_code: None until it has ended.
    """

    running: bool
    pid: int
    exit_code: int | None

    @property
    def ended(self) -> bool:
        """Whether it has run, or failed to."""
        return not self.running and self.exit_code is not None


def container_state(data: Mapping[str, Any]) -> ContainerState:
    """The state in the answer to an inspect."""
    state = data["State"]
    return ContainerState(
        id=data["Id"],
        name=data["Name"].removeprefix("/"),
        labels=data["Config"].get("Labels") or {},
        running=bool(state["Running"]),
        started_at=timestamp(state.get("StartedAt", "")),
        finished_at=timestamp(state.get("FinishedAt", "")),
        exit_code=state.get("ExitCode", 0),
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        internal_ip=_internal_ip(data.get("NetworkSettings") or {}),
        pid=state.get("Pid", 0),
    )


def container_summary(data: Mapping[str, Any]) -> ContainerSummary:
    """One container of the answer to a listing."""
    names = data.get("Names") or [""]
    return ContainerSummary(
        id=data["Id"],
        name=names[0].removeprefix("/"),
        labels=data.get("Labels") or {},
        running=data.get("State") in _WITH_A_PROCESS,
    )


def engine_facts(info: Mapping[str, Any], version: Mapping[str, Any]) -> EngineFacts:
    """What is worth telling of the answers to info and version."""

    def text(value: object) -> str:
        return value if isinstance(value, str) else ""

    return EngineFacts(
        version=text(version.get("Version")),
        api_version=text(version.get("ApiVersion")),
        root_dir=text(info.get("DockerRootDir")),
        storage_driver=text(info.get("Driver")),
        cgroup_version=text(info.get("CgroupVersion")),
        memory_limit=info.get("MemoryLimit") is True,
        cpu_limit=info.get("CpuCfsQuota") is True,
        pids_limit=info.get("PidsLimit") is True,
        ip_forwarding=info.get("IPv4Forwarding") is True,
        bridge_iptables=info.get("BridgeNfIptables") is True,
        live_restore=info.get("LiveRestoreEnabled") is True,
    )


def exec_state(data: Mapping[str, Any]) -> ExecState:
    """The state in the answer to an inspect of a command."""
    return ExecState(bool(data["Running"]), data.get("Pid") or 0, data["ExitCode"])


def timestamp(text: str) -> datetime | None:
    """The time in an RFC 3339 text with any number of decimals; None for Go's zero time.

    :raises ValueError: if it is not such a text.
    """
    if not text or text.startswith("0001-01-01T"):
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _internal_ip(network: Mapping[str, Any]) -> str:
    if network.get("IPAddress"):
        return str(network["IPAddress"])
    for endpoint in (network.get("Networks") or {}).values():
        if endpoint and endpoint.get("IPAddress"):
            return str(endpoint["IPAddress"])
    return ""
