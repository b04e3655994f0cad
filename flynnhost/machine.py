"""What the machine has, and what this process uses of it. Everything here may block."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path

_PROC = Path("/proc/self")


def disk(path: str) -> Mapping[str, object]:
    """How large the file system at a path is, and how much of it is free for who is not root.

    :return: ``path``, ``total_bytes`` and ``free_bytes``, or ``path`` and ``error``.
    """
    try:
        found = os.statvfs(path)
    except OSError as e:
        return {"path": path, "error": e.strerror or str(e)}
    return {
        "path": path,
        "total_bytes": found.f_blocks * found.f_frsize,
        "free_bytes": found.f_bavail * found.f_frsize,
    }


def process() -> Mapping[str, object]:
    """This process: ``pid``, ``memory_bytes``, ``open_files`` and ``open_files_limit``.

    What the system does not tell is left out.
    """
    found: dict[str, object] = {"pid": os.getpid()}
    try:
        pages = int((_PROC / "statm").read_text(encoding="ascii").split()[1])
        found["memory_bytes"] = pages * os.sysconf("SC_PAGE_SIZE")
        found["open_files"] = sum(1 for _ in (_PROC / "fd").iterdir())
    except (OSError, ValueError, IndexError):
        pass  # a system without /proc
    found["open_files_limit"] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return found
