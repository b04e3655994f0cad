"""Who does not use etcd does not pay for it."""

from __future__ import annotations

import subprocess
import sys


def test_imported_late() -> None:
    """Leases, mirrors and the way to a client don't import txaioetcd; making a client does."""
    program = (
        "import sys, flynnhost.etcd.lease, flynnhost.etcd.mirror, flynnhost.etcd.connect as c\n"
        "assert 'txaioetcd' not in sys.modules\n"
        "from twisted.internet.task import Clock\n"
        "c.connect(Clock(), c.EtcdSettings(('http://127.0.0.1:1',)))\n"
        "assert 'txaioetcd' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
