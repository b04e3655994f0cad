"""An image registry of one's own."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

from attrs import define, field

from tests.support.waiting import wait_until

_PROGRAM = "docker-registry"
_CONFIG = """\
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: DIRECTORY/data}}
http: {addr: "127.0.0.1:0"}
"""


def missing() -> str:
    """What keeps this machine from running a registry; empty if nothing does."""
    return "" if shutil.which(_PROGRAM) else f"there is no {_PROGRAM}: apt-get install docker-registry"


@define(eq=False)
class Registry:
    """A registry on a loopback port that the kernel chose; engines take it without TLS."""

    directory: Path
    address: str = field(init=False, default="")
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def start(self) -> None:
        """Start it and wait until it listens."""
        config, log = self.directory / "config.yml", self.directory / "registry.log"
        config.write_text(_CONFIG.replace("DIRECTORY", str(self.directory)))
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [_PROGRAM, "serve", str(config)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

        def listening() -> re.Match[str] | None:
            return re.search(r"listening on ([0-9.]+:\d+)", log.read_text(errors="replace"))

        self.address = wait_until(listening, "the registry to listen").group(1)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait(10)
