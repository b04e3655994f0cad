"""A small image made of Debian's static busybox, for machines without a registry in reach."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
IMAGE = "busybox:latest"

_PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\nflynn:x:1000:1000:flynn:/home:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
)
_GROUP = b"root:x:0:\nflynn:x:1000:\nnogroup:x:65534:\n"


def busybox_tar() -> bytes:
    """A root directory with busybox under all of its names."""
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for directory in ("bin", "etc", "home", "proc", "root", "sys", "tmp", "var"):
            info = tarfile.TarInfo(directory)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            tar.addfile(info)
        _add(tar, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        _add(tar, "etc/passwd", _PASSWD)
        _add(tar, "etc/group", _GROUP)
        for applet in applets:
            # The list has busybox itself, and a link to itself would not run.
            if applet != "busybox":
                info = tarfile.TarInfo(f"bin/{applet}")
                info.type, info.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(info)
    return packed.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))
