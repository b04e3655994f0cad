"""Says beforehand whether a host would take jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flynnhost.agent.spec import check_supported
from flynnhost.canonical import digest
from flynnhost.errors import InvalidField, JobConflict, StaleTerm
from flynnhost.interfaces import IAgent
from flynnhost.model import Job


def foresee(agent: IAgent, highest_term: Callable[[], int], jobs: Sequence[Job], term: int) -> None:
    """Raise what ``IAgent.accept`` would fail with, as far as that can be known now. Changes nothing.

    :param highest_term: the highest leader's term that the host has seen.
    """
    if term < highest_term():
        raise StaleTerm(term, highest_term())
    known = agent.jobs()
    asked: dict[str, str] = {}
    for index, job in enumerate(jobs):
        try:
            check_supported(job)
        except InvalidField as e:
            raise e.under(f"[{index}]") from None
        content = digest(job)
        there = known[job.id].digest if job.id in known else asked.setdefault(job.id, content)
        if there != content:
            raise JobConflict(job.id, "is known already, with other content")
