"""What the machine has."""

from __future__ import annotations

import os
from collections.abc import Mapping


def machine_resources() -> Mapping[str, int]:
    """The memory in bytes and the CPUs in thousandths of a core, whoever may use how much of them."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"memory": memory, "cpu": 1000 * (os.cpu_count() or 1)}
