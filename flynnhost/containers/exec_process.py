"""The process of a command that was begun in a running container, as this machine knows it.

The engine can begin a command but not end it. What can be done here is done with the process
itself, as long as it is certainly the one that is meant: numbers of processes are given again,
and those of another machine, or of a namespace that is not ours, mean other processes here.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import define

_PROC = Path("/proc")


@define(eq=False)
class ExecProcess:
    """A process in a container, which leads a session and a group of its own.

    :param pid: its number.
    :param container_id: of its container.
    :param namespace: the container's namespace of processes.
    :param descriptor: stands for the process, also when its number is given again.
    """

    pid: int
    _container_id: str
    _namespace: str
    _descriptor: int

    @classmethod
    def thd_open(cls, pid: int, container_id: str) -> ExecProcess | None:
        """The process with this number, if it is in the container and the container on this machine."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return None
        namespace = _namespace(pid)
        if namespace and namespace != _namespace("self") and _within(pid, container_id):
            return cls(pid, container_id, namespace, descriptor)
        os.close(descriptor)
        return None

    def thd_is_beside(self, pid: int) -> bool:
        """Whether the process with this number is in the same namespace."""
        return _namespace(pid) == self._namespace

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._descriptor < 0 or bool(_readable(self._descriptor))

    def thd_signal(self, number: int) -> bool:
        """Send a signal to it and to what it has begun, if that stayed in its group.

        Returns False if it has ended.
        """
        if self.ended:
            return False
        self._thd_signal_each(os.getpgid, number)
        return True

    def thd_signal_session(self, number: int) -> None:
        """Send a signal to all of its session: to it, and to what it has begun, if it has ended too."""
        self._thd_signal_each(os.getsid, number)

    def close(self) -> None:
        """Forget the process. May be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        """Let go of a process that was found when nobody waited for it any more."""
        self.close()

    def _thd_signal_each(self, belongs_to: Callable[[int], int], number: int) -> None:
        for pid in _all_processes():
            with suppress(ProcessLookupError):  # it ended meanwhile
                if belongs_to(pid) == self.pid:
                    with _opened(pid) as descriptor:
                        # Looked at again: by now the number is certain to be that of the same process.
                        if belongs_to(pid) == self.pid and self._is_ours(pid):
                            signal.pidfd_send_signal(descriptor, number)

    def _is_ours(self, pid: int) -> bool:
        return _namespace(pid) == self._namespace and _within(pid, self._container_id)


@contextmanager
def _opened(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _readable(descriptor: int) -> list[tuple[int, int]]:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return waiting.poll(0)


def _all_processes() -> Iterator[int]:
    for name in os.listdir(_PROC):  # noqa: PTH208 - there may be many
        if name.isdecimal():
            yield int(name)


def _namespace(pid: int | str) -> str:
    """What identifies a process's namespace of processes; empty if the process is not there."""
    try:
        return str((_PROC / str(pid) / "ns" / "pid").readlink())
    except OSError:
        return ""


def _within(pid: int, container_id: str) -> bool:
    """Whether the process is in this container, as its control group says, or what the engine has mounted."""
    for name in ("cgroup", "mountinfo"):
        with suppress(OSError):
            if container_id in (_PROC / str(pid) / name).read_text(errors="replace"):
                return True
    return False
