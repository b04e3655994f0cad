"""What a container looks like when Docker is asked to make it."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from flynnhost.interfaces import Bind, ContainerSpec, Limits


@frozen
class OutputFiles:
    """How much of a container's output the engine keeps on disk.

    :param size_bytes: how big one file may grow.
    :param count: how many files are kept, the oldest of which is dropped.
    """

    size_bytes: int = 100_000_000
    count: int = 5


def create_body(spec: ContainerSpec, output: OutputFiles) -> dict[str, Any]:
    """The body of Docker's request to create a container."""
    body: dict[str, Any] = {
        "Image": spec.image,
        "Labels": dict(spec.labels),
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "Tty": spec.tty,
        "HostConfig": _host_config(spec, output),
    }
    if spec.stdin:
        body["OpenStdin"] = True
        # Only so does the end of the input reach the process. A terminal has no such end.
        body["StdinOnce"] = not spec.tty
    optional = {
        "Hostname": spec.hostname,
        "Entrypoint": list(spec.entry_point),
        "Cmd": list(spec.cmd),
        "User": spec.user,
        "WorkingDir": spec.working_dir,
        "Volumes": {path: {} for path in spec.volumes},
        "ExposedPorts": {f"{port.container_port}/{port.proto}": {} for port in spec.ports},
    }
    body.update((key, value) for key, value in optional.items() if value)
    return body


def _host_config(spec: ContainerSpec, output: OutputFiles) -> dict[str, Any]:
    config: dict[str, Any] = {
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "LogConfig": _log_config(spec.keep_output, output),
        **_limits(spec.limits),
    }
    if spec.host_network:
        config["NetworkMode"] = "host"
    if spec.ports:
        config["PortBindings"] = _port_bindings(spec)
    if spec.binds:
        config["Mounts"] = [_mount(bind) for bind in spec.binds]
    return config


def _port_bindings(spec: ContainerSpec) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        inside = f"{port.container_port}/{port.proto}"
        outside = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        bindings.setdefault(inside, []).append(outside)
    return bindings


def _mount(bind: Bind) -> dict[str, Any]:
    # Unlike "source:target" this knows no escaping, and a missing source is an error.
    return {
        "Type": "bind" if bind.source.startswith("/") else "volume",
        "Source": bind.source,
        "Target": bind.target,
        "ReadOnly": not bind.writeable,
    }


def _limits(limits: Limits) -> dict[str, Any]:
    values: dict[str, Any] = {
        "Memory": limits.memory_bytes,
        # Memory and swap together: no swap. Kernels that don't count swap ignore it.
        "MemorySwap": limits.memory_bytes,
        "MemoryReservation": limits.memory_reservation_bytes,
        "NanoCpus": limits.nano_cpus,
        "CpuShares": limits.cpu_shares,
        "PidsLimit": limits.pids,
    }
    if limits.open_files is not None:
        values["Ulimits"] = [{"Name": "nofile", "Soft": limits.open_files, "Hard": limits.open_files}]
    return {key: value for key, value in values.items() if value is not None}


def _log_config(keep_output: bool, output: OutputFiles) -> dict[str, Any]:
    if not keep_output:
        return {"Type": "none", "Config": {}}
    # Unlike "json-file" it keeps all bytes as they are, and it is quicker. Compressing would cost
    # more than the space it saves is worth, each time that something is read.
    return {
        "Type": "local",
        "Config": {"max-size": str(output.size_bytes), "max-file": str(output.count), "compress": "false"},
    }
