"""What names look like, wherever they are checked."""

from __future__ import annotations

import re

#: A job's ID, as far as we accept it.
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

#: A service's name in discoverd.
SERVICE_NAME = re.compile(r"[a-z0-9-]+")

#: What Docker takes as the name of a volume.
VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}")
