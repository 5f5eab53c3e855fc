"""Open tickets without an organization get that of their customer, where an admin said so at onboarding.

    without one --look--> still open, still without --intent, job--> read back --> outcome, audit

A ticket that has an organization, whoever gave it, is never touched. Each is looked at just before it is sent, a
hundred a call; `step` sends one job at a time and says when to come back, and resolves first what an earlier try left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_qadzd.errors import QadzdError, TryLater
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger import ticket_organizations as memory
from airflow_provider_qadzd.ledger.ticket_organizations import MOST_ATTEMPTS, OPEN, Intent, Missing
from airflow_provider_qadzd.sync.apply import LOST_AFTER, POLL_SECONDS, STUCK_AFTER, Done, Waiting
from airflow_provider_qadzd.sync.webhooks import fires_on_organization
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import JobStatus, Row

_CHUNK = 100


# -- deciding ----------------------------------------------------------------------------------------------------------


def still_missing(wanted: Sequence[Missing], there: Mapping[int, Mapping[str, Any]]) -> list[Missing]:
    """Those of `wanted` that may be sent by what Zendesk has of them now, by id. The export brings what differs.

    The requester decides whose ticket it is: where they are another person by now, it is matched again first.
    """
    return [
        one
        for one in wanted
        if (now := there.get(one.ticket_id)) is not None
        and now.get("organization_id") is None
        and now.get("status") in OPEN
        and now.get("requester_id") == one.requester_id
    ]


def outcome_of(intent: Intent, now: Mapping[str, Any] | None, job: JobStatus | None) -> str | None:
    """What became of a sent intent, by its ticket as it is now; None if it is to be sent again."""
    if now is None:
        return "gone"
    if now.get("organization_id") == intent.organization_id:
        return "set"
    if now.get("organization_id") is not None:
        return "left"  # somebody else was quicker
    if now.get("status") not in OPEN:
        return "refused over"
    said = {row.id: row for row in job.results} if job and job.status == "completed" else {}
    row = said.get(intent.ticket_id)
    if row is not None:
        # Zendesk takes an organization only if the requester is a member of it.
        return f"refused {row.error or 'not kept'}"
    return "refused" if intent.attempts >= MOST_ATTEMPTS else None


def that_would_fire(triggers: Iterable[Mapping[str, Any]]) -> list[str]:
    """The titles of triggers that setting an organization may fire."""
    return [str(trigger.get("title")) for trigger in triggers if fires_on_organization(trigger)]


# -- doing -------------------------------------------------------------------------------------------------------------


@dataclass
class TicketOrganizations:
    """Sets missing organizations on an account's tickets. `run` names the run; `writes` counts jobs that were sent."""

    ledger: Ledger
    account_id: int
    client: ZendeskClient
    run: str
    writes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def step(self) -> Waiting | Done:
        """Resolve what was sent, then send the next hundred."""
        waiting = self._resolve()
        if waiting is not None:
            return waiting
        after = -1
        while wanted := memory.missing(self.ledger, self.account_id, after, _CHUNK):
            after = wanted[-1].ticket_id
            chosen = still_missing(wanted, self._there(one.ticket_id for one in wanted))
            if chosen:
                return self._send(chosen)
        return Done(self.report())

    def report(self) -> dict[str, Any]:
        """Outcomes by word, and the jobs that Zendesk took."""
        return {"organizations": dict(self.outcomes), "zendesk_writes": self.writes}

    def _send(self, chosen: Sequence[Missing]) -> Waiting:
        ids = [one.ticket_id for one in chosen]
        memory.intend(self.ledger, self.account_id, chosen, self.run)
        try:
            job = self.client.tickets.update_many(
                {"id": one.ticket_id, "organization_id": one.organization_id} for one in chosen
            )
        except QadzdError as error:
            if not (isinstance(error, TryLater) and error.unanswered):
                memory.plan_again(self.ledger, self.account_id, ids)
            raise
        self.writes += 1
        memory.note_job(self.ledger, self.account_id, ids, job.id)
        return self._wait(job.id)

    def _resolve(self) -> Waiting | None:
        intents = memory.in_flight(self.ledger, self.account_id)
        if not intents:
            return None
        ids = sorted({one.job_id for one in intents} - {""})
        jobs = {job.id: job for job in self.client.jobs.show_many(ids)} if ids else {}
        age = self.ledger.clock.time() - max(one.sent_epoch for one in intents)
        if any(not job.done for job in jobs.values()) and age < STUCK_AFTER:
            return self._wait(*ids)
        # A request whose answer was lost may still be a job of tickets that runs.
        lost = any(not one.job_id for one in intents)
        if lost and age < LOST_AFTER and any("ticket" in job.job_type.lower() for job in self.client.jobs.list_open()):
            return self._wait()
        there = self._there(one.ticket_id for one in intents)
        found = {one.ticket_id: outcome_of(one, there.get(one.ticket_id), jobs.get(one.job_id)) for one in intents}
        ended = {ticket_id: outcome for ticket_id, outcome in found.items() if outcome is not None}
        memory.end(self.ledger, self.account_id, ended, intents, self.run)
        memory.plan_again(self.ledger, self.account_id, [one for one in found if one not in ended])
        self.outcomes.update(ended.values())
        return None

    def _there(self, ticket_ids: Iterable[int]) -> dict[int, Row]:
        """These tickets as Zendesk has them now, by id; deleted ones are left out."""
        ids, found = list(ticket_ids), dict[int, Row]()
        for start in range(0, len(ids), _CHUNK):
            found.update((int(row["id"]), row) for row in self.client.tickets.show_many(ids[start : start + _CHUNK]))
        return found

    def _wait(self, *jobs: str) -> Waiting:
        return Waiting(self.ledger.clock.time() + POLL_SECONDS, jobs)
