"""Tells twistd of the flynn-host plugin."""

from twisted.application.service import ServiceMaker

flynn_host = ServiceMaker(
    "flynn-host",
    "flynnhost.tap",
    "Runs jobs in containers on this host, and leads the cluster when elected.",
    "flynn-host",
)
