"""One planned change's life: decided again, sent with its intent written first, read to its end, written down.

`step` does what can be done without waiting and says whether to come back: `Waiting` with the time and the jobs, or
`Done` with the report. It may be called by any process at any time, after any crash: what is open is resolved first, by
asking Zendesk what is there, and only then is anything sent.

    planned --decide again--> sent --job or answer--> read back --> outcome, link, audit
       ^                        |                        |
       |                        | answer lost            | not there: sent singly, to hear why
       +------- not there ------+------------------------+

Organizations go before users, users before memberships and identities, because each needs the ids of the one before.
What is sent is built from *wanted* at that moment; a plan's stored difference is for people to read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from airflow_provider_qadzd.errors import FixFirst, SetAside, TryLater
from airflow_provider_qadzd.ledger import Ledger, accounts, changes
from airflow_provider_qadzd.ledger.changes import Change as Item
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.records import Candidate, Kind, fold
from airflow_provider_qadzd.sync.draft import settled
from airflow_provider_qadzd.sync.mirror import observed
from airflow_provider_qadzd.sync.pairs import Pairs
from airflow_provider_qadzd.sync.plan import Change, Settled, decide
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import BULK_IMPORT_OFF, JobStatus

log = logging.getLogger(__name__)

CHUNK = 100
FEW = 3
"""Up to this many changes go singly: a job costs a poll and a look as well."""
LEASE_SECONDS = 300.0
LOST_AFTER = 900.0
"""Seconds after which a sent change without a job is asked about even while jobs of its kind are open."""
POLL_SECONDS = 2.0
_STAGES: tuple[tuple[Kind, ...], ...] = (("organization",), ("user",), ("membership", "identity"))


@dataclass(frozen=True, slots=True)
class Waiting:
    """Jobs are running in Zendesk: call `step` again at `until` (Unix seconds)."""

    until: float
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is open any more. `report` counts outcomes by kind, and what was written in Zendesk."""

    report: dict[str, Any]


@dataclass
class Applier:
    """Applies a flow's planned changes. `owner` names the run; `bulk` is None until Zendesk showed whether it may."""

    ledger: Ledger
    flow: Flow
    client: ZendeskClient
    owner: str
    plan_id: int
    bulk: bool | None = None
    writes: int = 0
    pairs: Pairs = field(init=False)

    def __post_init__(self) -> None:
        self.pairs = Pairs(self.ledger, self.flow, self.client)

    def step(self) -> Waiting | Done:
        """Resolve what is open, send what can be sent. TryLater while another run applies to this account."""
        lease = changes.take_applier(self.ledger, self.flow.account_id, self.owner, LEASE_SECONDS)
        self._resolve_open()
        for stage in _STAGES:
            for kind in stage:
                self._send_all(lease, kind)
            waiting = self._waiting(stage)
            if waiting:
                return waiting
        changes.end_applier(self.ledger, lease)
        return Done(self._report())

    # -- what is open --------------------------------------------------------------------------------------------------

    def _resolve_open(self) -> None:
        """Every job that ended is read per row; every change whose answer was lost is looked for in Zendesk."""
        open_items = changes.in_flight(self.ledger, self.flow)
        by_job: dict[str, list[Item]] = {}
        for item in open_items:
            by_job.setdefault(item.job_id, []).append(item)
        lost = by_job.pop("", [])
        known = {job.id: job for ids in _hundreds(by_job) for job in self.client.jobs.show_many(ids)}
        for job_id, items in by_job.items():
            job = known.get(job_id)
            if job is None:
                log.warning("Zendesk no longer knows job %s; looking for its %s records.", job_id, len(items))
            if job is None or job.done:
                self._read_back(items, job)
        if lost and self._may_look(lost):
            self._read_back(lost, None)

    def _may_look(self, lost: Sequence[Item]) -> bool:
        """A lost request may still be a running job: look once none of its kind is open, or after a while."""
        now = self.ledger.clock.time()
        if all(now - (item.sent_epoch or 0) > LOST_AFTER for item in lost):
            return True
        kinds = {item.kind for item in lost}
        return not any(kind in job.job_type.lower() for job in self.client.jobs.list_open() for kind in kinds)

    def _read_back(self, items: Sequence[Item], job: JobStatus | None) -> None:
        for chunk in _hundreds(items):
            by_kind: dict[str, list[Item]] = {}
            for item in chunk:
                by_kind.setdefault(item.kind, []).append(item)
            for kind, some in by_kind.items():
                if kind == "organization" or kind == "user":
                    self._look_for(kind, some, job)
                else:
                    self.pairs.look_for(some, job, self.owner)

    def _look_for(
        self, kind: Literal["organization", "user"], items: Sequence[Item], job: JobStatus | None
    ) -> None:
        """Read what Zendesk has of these now: what was written is over, what was not is planned again, singly.

        A create is over once a record carries its external id. An update is over once nothing is left to change, or
        the job says that the row went well: then Zendesk keeps a value of its own in some field.
        """
        self._observe(kind, external_ids=self._external_ids(kind, [item for item in items if item.operation == "create"]))
        self._observe(kind, ids=[item.zendesk_id for item in items if item.operation == "update"])
        went_well = {row.id for row in job.results if row.ok} if job else set()
        found = {one.key: one for one in accounts.candidates(self.ledger, self.flow, kind, _keys(items))}
        ended, again = [], []
        for item in items:
            candidate = found[item.record_key]
            held = candidate.current or candidate.by_external
            written = held is not None and (
                item.operation == "create" or held.zendesk_id in went_well or isinstance(decide(candidate), Settled)
            )
            if held is not None and written:
                ended.append(self._success(item, held.zendesk_id, held.digest))
            else:
                again.append(item.change_id)
        self._settle(ended)
        if again:
            changes.plan_again(self.ledger, again, singly=True)

    # -- what is planned -----------------------------------------------------------------------------------------------

    def _send_all(self, lease: changes.ApplierLease, kind: Kind) -> None:
        while True:
            if len({item.job_id for item in changes.in_flight(self.ledger, self.flow)} - {""}) >= 25:
                return  # Zendesk runs 30 jobs an account at once, and others have some too
            items = changes.planned(self.ledger, self.flow, kind, CHUNK)
            if not items:
                return
            if kind == "organization" or kind == "user":
                self._send_records(lease, kind, items)
            else:
                self.writes += self.pairs.send(lease, items, self.owner)

    def _send_records(
        self, lease: changes.ApplierLease, kind: Literal["organization", "user"], items: Sequence[Item]
    ) -> None:
        self._observe(kind, ids=[item.zendesk_id for item in items if item.zendesk_id is not None])
        decided = {
            one.key: (one, decide(one))
            for one in accounts.candidates(self.ledger, self.flow, kind, _keys(items))
        }
        to_send: list[tuple[Item, Candidate, Change]] = []
        ended: list[Ended] = []
        for item in items:
            candidate, decision = decided[item.record_key]
            if isinstance(decision, Settled):
                ended.append(settled(candidate, decision, item.change_id))
            elif decision.operation != item.operation:
                ended.append(Ended(kind, item.record_key, "superseded", "decided anew", change_id=item.change_id))
            else:
                to_send.append((item, candidate, decision))
        self._settle(ended)
        if not to_send:
            return
        many = len(to_send) > FEW and items[0].attempts == 0
        if many and not (kind == "user" and items[0].operation == "create" and self.bulk is False):
            self._send_job(lease, kind, to_send)
        else:
            for one in to_send:
                self._send_singly(lease, kind, *one)

    def _send_job(
        self, lease: changes.ApplierLease, kind: Literal["organization", "user"],
        to_send: Sequence[tuple[Item, Candidate, Change]],
    ) -> None:  # fmt: skip
        group = self.client.organizations if kind == "organization" else self.client.users
        ids = [item.change_id for item, _, _ in to_send]
        bodies = [self._body(item, candidate, change) for item, candidate, change in to_send]
        changes.mark_sent(
            self.ledger, lease, ids, {item.change_id: candidate.fingerprint for item, candidate, _ in to_send}
        )
        try:
            create = to_send[0][0].operation == "create"
            job = group.create_many(bodies) if create else group.update_many(bodies)
        except TryLater as error:
            changes.not_answered(self.ledger, ids, error)
            raise
        except FixFirst as error:
            changes.plan_again(self.ledger, ids, singly=False)
            if error.facts.code != BULK_IMPORT_OFF:
                raise
            log.info("Bulk user import is off in this Zendesk account; users are created one by one.")
            self.bulk = False
            return
        self.writes += 1
        changes.mark(self.ledger, ids, job_id=job.id)

    def _send_singly(
        self, lease: changes.ApplierLease, kind: Literal["organization", "user"], item: Item, candidate: Candidate,
        change: Change,
    ) -> None:  # fmt: skip
        group = self.client.organizations if kind == "organization" else self.client.users
        body = self._body(item, candidate, change)
        changes.mark_sent(self.ledger, lease, [item.change_id], {item.change_id: candidate.fingerprint})
        try:
            if change.operation == "create":
                answer = group.create(body)
            else:
                answer = group.update(int(change.zendesk_id or 0), {k: v for k, v in body.items() if k != "id"})
        except TryLater as error:
            changes.not_answered(self.ledger, [item.change_id], error)
            raise
        except SetAside as error:
            self._refused(kind, item, candidate, error)
            return
        self.writes += 1
        self._store(kind, [answer])
        rows = observed(self.flow.account_id, kind, [answer], self.ledger.clock.time())
        written = self._success(item, int(answer["id"]), rows[0]["digest"])
        self._settle([replace(written, fingerprint=candidate.fingerprint)])

    def _refused(
        self, kind: Literal["organization", "user"], item: Item, candidate: Candidate, error: SetAside
    ) -> None:
        """Zendesk refused this one record. A value that another record holds: find the holder, decide once more."""
        taken = {name for name, code in error.facts.details if code == "DuplicateValue"}
        if taken and item.attempts < 2:
            self._store(kind, self._holders(kind, candidate, taken))
            (again,) = accounts.candidates(self.ledger, self.flow, kind, [item.record_key])
            decision = decide(again)
            if isinstance(decision, Settled):
                self._settle([settled(again, decision, item.change_id)])
                return
            if decision.operation == "update":
                changes.mark(
                    self.ledger, [item.change_id], change_state="planned", operation="update",
                    intended=decision.outcome, attempts=2, zendesk_id=decision.zendesk_id,
                )  # fmt: skip
                return
        detail = f"refused_by_zendesk {', '.join(f'{name} {code}' for name, code in error.facts.details)}".strip()
        self._settle([Ended(kind, item.record_key, "set_aside", detail, change_id=item.change_id)])

    def _holders(
        self, kind: Literal["organization", "user"], candidate: Candidate, taken: Iterable[str]
    ) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        if kind == "organization":
            rows += self.client.organizations.search(name=str(candidate.body["name"]))
        elif "email" in taken and candidate.body.get("email"):
            found = self.client.users.search(email=str(candidate.body["email"]))
            rows += [row for row in found if fold(row.get("email") or "") == candidate.email_folded]
        group = self.client.organizations if kind == "organization" else self.client.users
        return rows + group.show_many(external_ids=[candidate.external_id])

    # -- the small steps -----------------------------------------------------------------------------------------------

    def _body(self, item: Item, candidate: Candidate, change: Change) -> dict[str, Any]:
        body = dict(change.body)
        if change.operation == "update":
            return {"id": change.zendesk_id, **body}
        first = self.pairs.first_organization(item.record_key) if candidate.kind == "user" else None
        return body if first is None else {**body, "organization_id": first}

    def _success(self, item: Item, zendesk_id: int, base: str) -> Ended:
        return Ended(
            item.kind, item.record_key, item.intended, change_id=item.change_id, linked=True, zendesk_id=zendesk_id,
            base=base, fingerprint=item.fingerprint, difference=item.difference,
        )  # fmt: skip

    def _observe(
        self, kind: Literal["organization", "user"], *, ids: Iterable[int | None] = (), external_ids: Sequence[str] = ()
    ) -> None:
        """Read these as they are now, into the mirror; known ids that Zendesk leaves out are gone."""
        group = self.client.organizations if kind == "organization" else self.client.users
        asked = [one for one in ids if one is not None]
        for some in _hundreds(asked):
            rows = group.show_many(ids=some)
            self._store(kind, rows, gone=set(some) - {int(row["id"]) for row in rows})
        for some in _hundreds(external_ids):
            self._store(kind, group.show_many(external_ids=some))

    def _store(self, kind: Kind, rows: Sequence[Mapping[str, Any]], gone: Iterable[int] = ()) -> None:
        with self.ledger.writing() as tx:
            accounts.save_mirror(tx, observed(self.flow.account_id, kind, rows, self.ledger.clock.time()))
            accounts.mark_gone(tx, self.flow.account_id, kind, gone)

    def _external_ids(self, kind: Kind, items: Sequence[Item]) -> list[str]:
        return [one.external_id for one in accounts.candidates(self.ledger, self.flow, kind, _keys(items))]

    def _settle(self, ended: Sequence[Ended]) -> None:
        if ended:
            with self.ledger.writing() as tx:
                changes.settle(tx, self.ledger, self.flow, ended, self.owner)

    def _waiting(self, stage: Sequence[Kind]) -> Waiting | None:
        flying = [item for kind in stage for item in changes.in_flight(self.ledger, self.flow, kind)]
        if not flying and not any(changes.planned(self.ledger, self.flow, kind, 1) for kind in stage):
            return None
        jobs = sorted({item.job_id for item in flying} - {""})
        return Waiting(self.ledger.clock.time() + POLL_SECONDS, tuple(jobs))

    def _report(self) -> dict[str, Any]:
        return {"outcomes": changes.outcomes_of(self.ledger, self.flow, self.plan_id), "zendesk_writes": self.writes}


def _keys(items: Sequence[Item]) -> list[str]:
    return [item.record_key for item in items]


def _hundreds(items: Iterable[Any]) -> Iterable[list[Any]]:
    listed = list(items)
    return (listed[start : start + CHUNK] for start in range(0, len(listed), CHUNK))
