"""The seams of flynn-host: what its parts need of each other, and of the world.

Everything behind these interfaces can be replaced by a fake that passes the
same contract (see ``flynnhost.testing``). All methods are called on the reactor
thread, all callbacks are made on it, and no method blocks.
"""

from __future__ import annotations

from flynnhost.interfaces.agent import Check, IAgent
from flynnhost.interfaces.attach import AttachQuery, IAttachClient, IAttachment
from flynnhost.interfaces.cluster import (
    Following,
    ICluster,
    IClusterHosts,
    IHostLink,
    ILeaderRecord,
    ILeadership,
    IPrepared,
    Part,
)
from flynnhost.interfaces.containers import (
    Bind,
    ContainerSpec,
    ContainerState,
    ContainerSummary,
    EngineFacts,
    ExecSpec,
    IContainerListener,
    IContainers,
    IEntryReceiver,
    IExecution,
    IInput,
    ILogReceiver,
    ILogStream,
    IWatch,
    Limits,
    LogEntry,
    LogQuery,
    PublishedPort,
)
from flynnhost.interfaces.etcd import IEtcd, IKeyListener, IKeyWatch
from flynnhost.interfaces.feeds import HostFeed, IFeed, ISubscription, JobFeed
from flynnhost.interfaces.journal import IJournal, JournalContents
from flynnhost.interfaces.sessions import ISessionConnector, ISessionTransport, ISessionUser

__all__ = [
    "AttachQuery",
    "Bind",
    "Check",
    "ContainerSpec",
    "ContainerState",
    "ContainerSummary",
    "EngineFacts",
    "ExecSpec",
    "Following",
    "HostFeed",
    "IAgent",
    "IAttachClient",
    "IAttachment",
    "ICluster",
    "IClusterHosts",
    "IContainerListener",
    "IContainers",
    "IEntryReceiver",
    "IEtcd",
    "IExecution",
    "IFeed",
    "IHostLink",
    "IInput",
    "IJournal",
    "IKeyListener",
    "IKeyWatch",
    "ILeaderRecord",
    "ILeadership",
    "ILogReceiver",
    "ILogStream",
    "IPrepared",
    "ISessionConnector",
    "ISessionTransport",
    "ISessionUser",
    "ISubscription",
    "IWatch",
    "JobFeed",
    "JournalContents",
    "Limits",
    "LogEntry",
    "LogQuery",
    "Part",
    "PublishedPort",
]
