"""Jobs on all hosts of a cluster, and whether trouble in the cluster has touched them."""

from __future__ import annotations

from attrs import frozen

from flynnhost.model import JobStatus
from tests.support.cluster_rig import ClusterRig, post_until_taken
from tests.support.host_api import WireJob, status
from tests.support.host_process import HostProcess
from tests.support.waiting import wait_until
from tests.support.wire_jobs import shell_job


@frozen
class RunningJobs:
    """Jobs that count aloud, on each host of a cluster.

    :param jobs: by host.
    :param processes: by host the process of each.
    """

    cluster: ClusterRig
    jobs: dict[str, list[WireJob]]
    processes: dict[str, dict[str, int]]

    def ids(self, *hosts: HostProcess) -> dict[str, frozenset[str]]:
        """Their IDs by host, of some hosts."""
        return {host.host_id: frozenset(job["id"] for job in self.jobs[host.host_id]) for host in hosts}

    def untouched(self) -> None:
        """Make sure that they are the same processes still, and that their hosts say so."""
        for host in self.cluster.hosts:
            processes = self.cluster.containers(host).pids()
            for job_id, pid in self.processes[host.host_id].items():
                assert processes.get(job_id) == pid, f"{job_id} was {pid}, all of {host.host_id}: {processes}"
            known = host.api.jobs()
            states = {job["id"]: status(known[job["id"]]) for job in self.jobs[host.host_id]}
            assert set(states.values()) == {JobStatus.RUNNING}, states

    def counting(self, host: HostProcess) -> None:
        """Make sure that a host passes on what its jobs say, as they say it."""
        for job in self.jobs[host.host_id]:
            said = _said(host, job)
            wait_until(lambda job=job, said=said: _said(host, job) > said, "a job to say more")  # type: ignore[misc]


def running_everywhere(cluster: ClusterRig, each: int = 2) -> RunningJobs:
    """So many jobs on each host, as soon as they run."""
    script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.5; done"
    batch = {host.host_id: [shell_job(script) for _ in range(each)] for host in cluster.hosts}
    assert post_until_taken(cluster.leader(), batch).status == 200
    for host in cluster.hosts:
        for job in batch[host.host_id]:
            host.api.running(job)
    return RunningJobs(
        cluster, batch, {host.host_id: cluster.containers(host).pids() for host in cluster.hosts}
    )


def works_alone(host: HostProcess) -> None:
    """Make sure that a host does its own work: takes a job, runs it, and knows its end and output."""
    job = shell_job("echo alone; exit 4")
    assert host.api.request("PUT", f"/host/jobs/{job['id']}", job, within=10).status == 200
    assert host.api.ended(job, within=30)["exit_status"] == 4
    assert b"alone" in host.api.log(job, within=10).body
    assert host.api.get("/health", within=5).status == 200


def _said(host: HostProcess, job: WireJob) -> int:
    return len(host.api.log(job, within=10).body)
