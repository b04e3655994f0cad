"""What docs/client.md shows does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.support.host_process import ROOT, HostProcess, environment

pytestmark = pytest.mark.docker


def test_the_example_of_the_client(host: HostProcess, tmp_path: Path) -> None:
    """It runs as it stands in the page."""
    text = (ROOT / "docs/client.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)
    program = tmp_path / "example.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, program, f"127.0.0.1:{host.api.port}", uuid.uuid4().hex],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "HELLO\nexit status 0\n"), done.stderr
