"""One call for one record: for a few, for what a job would not take, and for new users where bulk import is off.

A handful goes out at a time, by a few threads. The intents of all are written before, the outcomes after; what is lost
in between is looked for in Zendesk by the next step, as after any crash.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_provider_qadzd.errors import FixFirst, QadzdError, SetAside, TryLater
from airflow_provider_qadzd.ledger import Ledger, accounts, changes
from airflow_provider_qadzd.ledger.applying import ApplierLease
from airflow_provider_qadzd.ledger.changes import Change as Item
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.records import Candidate, Flat
from airflow_provider_qadzd.sync.draft import settled
from airflow_provider_qadzd.sync.mapping import Rules
from airflow_provider_qadzd.sync.mirror import held, observe
from airflow_provider_qadzd.sync.pairs import REFUSED, refusal
from airflow_provider_qadzd.sync.plan import Change, Settled, decide
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import MISSING_SCOPE, NotFound, Row

HANDS = 8
"""Calls under way at once; the account's budget decides how fast they are made."""
ROUNDS = 2
"""Calls of each hand on one intent: even if every one of them waits as long as it may, the lease outlasts them."""
TRIES = 8
"""How often one change is decided anew after a refusal, at most: each time something new must have been learnt."""

NO_ANSWER = f"{REFUSED} without an answer"
"""Why a record is given up whose single call is never answered, and that is not there afterwards."""

RecordKind = Literal["organization", "user"]


@dataclass(frozen=True, slots=True)
class Sending:
    """One change as it is about to be sent: the stored item, what it was decided on, the decision, and the body."""

    item: Item
    candidate: Candidate
    change: Change
    body: dict[str, Any]

    @property
    def intent(self) -> tuple[str, Flat]:
        """What the ledger has to know of it before it is sent."""
        return self.candidate.fingerprint, self.change.remember


@dataclass(frozen=True, slots=True)
class Singly:
    """Sends a flow's organizations and users one by one. `hands` calls are under way at once."""

    ledger: Ledger
    flow: Flow
    client: ZendeskClient
    run: str
    rules: Rules
    hands: int = HANDS

    def send(self, lease: ApplierLease, kind: RecordKind, sendings: Sequence[Sending]) -> tuple[int, QadzdError | None]:
        """How many writes Zendesk took, and what stopped it if not all were sent. Every outcome is written down."""
        taken, size = 0, self.hands * ROUNDS
        for start in range(0, len(sendings), size):
            handful = sendings[start : start + size]
            intents = {one.item.change_id: one.intent for one in handful}
            changes.mark_sent(self.ledger, lease, list(intents), intents)
            answers = self._answers(kind, handful)
            taken += sum(isinstance(answer, dict) for answer in answers)
            stopped = self._write_down(kind, handful, answers)
            if stopped is not None:
                return taken, stopped
        return taken, None

    def _answers(self, kind: RecordKind, handful: Sequence[Sending]) -> list[Row | QadzdError | None]:
        """For each the record as Zendesk answered it, or the error; None for what was not sent after one that stops."""
        group = self.client.organizations if kind == "organization" else self.client.users
        stop = threading.Event()

        def call(one: Sending) -> Row | QadzdError | None:
            if stop.is_set():
                return None
            try:
                if one.change.operation == "create":
                    return group.create(one.body)
                return group.update(int(one.change.zendesk_id or 0), {k: v for k, v in one.body.items() if k != "id"})
            except QadzdError as error:
                if not isinstance(error, SetAside):
                    stop.set()
                return error

        if len(handful) == 1 or self.hands == 1:
            return [call(one) for one in handful]
        with ThreadPoolExecutor(self.hands) as hands:
            return list(hands.map(call, handful))

    def _write_down(
        self, kind: RecordKind, handful: Sequence[Sending], answers: Sequence[Row | QadzdError | None]
    ) -> QadzdError | None:
        """The outcome of each; what stops the rest is returned, what a person must look at before what passes."""
        rows = [answer for answer in answers if isinstance(answer, dict)]
        if rows:
            observe(self.ledger, self.flow.account_id, kind, rows, self.rules.mapping)
        ended = [self._written(one, kind, answer) for one, answer in zip(handful, answers, strict=True)]
        changes.end(self.ledger, self.flow, [one for one in ended if one is not None], self.run)
        stops: list[QadzdError] = []
        for one, answer in zip(handful, answers, strict=True):
            if answer is None:
                changes.plan_again(self.ledger, [one.item.change_id], "same")
            elif isinstance(answer, QadzdError) and (error := self._not_written(kind, one, answer)) is not None:
                stops.append(error)
        return min(stops, key=lambda error: isinstance(error, TryLater), default=None)

    def _not_written(self, kind: RecordKind, one: Sending, error: QadzdError) -> QadzdError | None:
        """Write down what the error means for this record; the error again, if it means something for all."""
        if isinstance(error, TryLater):
            changes.not_answered(self.ledger, [one.item.change_id], error)
            return error
        if isinstance(error, NotFound):
            observe(self.ledger, self.flow.account_id, kind, [], self.rules.mapping, [int(one.change.zendesk_id or 0)])
            self._end(kind, one.item, "failed_retryable", "gone")
            return None
        if isinstance(error, SetAside):
            self._refused(kind, one, error)
            return None
        if error.facts.status == 403 and error.facts.code != MISSING_SCOPE and self._is_admin():
            # https://developer.zendesk.com/api-reference/ticketing/users/users/: a shared user cannot be changed.
            self._end(kind, one.item, "set_aside", "forbidden_by_zendesk")
            return None
        if error.facts.status in (400, 413):
            self._end(kind, one.item, "set_aside", f"{REFUSED} {error.facts.code or error.facts.status}")
            return None
        changes.plan_again(self.ledger, [one.item.change_id], "same")
        return error

    def _is_admin(self) -> bool:
        """Whether we may write at all: then a 403 is about the one record."""
        try:
            return self.client.users.me().get("role") == "admin"
        except (TryLater, FixFirst):
            return False

    def _refused(self, kind: RecordKind, one: Sending, error: SetAside) -> None:
        """Zendesk refused this one record. A value that another record holds: find the holder, decide once more.

        Where that decides the same again, the record is set aside. But a holder that nobody sees yet may be new, and
        search lags: then the record is only put off, once, until the mirror has been read again.
        """
        item, change = one.item, one.change
        taken = {name for name, code in error.facts.details if code == "DuplicateValue"}
        outcome, detail = "set_aside", refusal(error)
        if taken and item.attempts < TRIES:
            holders = self._holders(kind, one.candidate, taken)
            observe(self.ledger, self.flow.account_id, kind, holders, self.rules.mapping)
            (again,) = accounts.candidates(self.ledger, self.flow, kind, [item.record_key])
            decision = decide(again, self.rules.policies)
            if isinstance(decision, Settled):
                changes.end(self.ledger, self.flow, [settled(again, decision, item.change_id)], self.run)
                return
            if (decision.operation, decision.body) != (change.operation, change.body):
                changes.mark(
                    self.ledger, [item.change_id], change_state="planned", operation=decision.operation,
                    intended=decision.outcome, attempts=item.attempts + 1, zendesk_id=decision.zendesk_id,
                )  # fmt: skip
                return
            if len(holders) == 1:
                detail += f", held by {holders[0]['id']}"
            elif changes.last_outcome(self.ledger, self.flow, item) != "failed_retryable":
                outcome = "failed_retryable"
        self._end(kind, item, outcome, detail)

    def _holders(self, kind: RecordKind, candidate: Candidate, taken: Iterable[str]) -> list[Row]:
        """Who has the name, or the email as any of their addresses, or the external id."""
        rows: list[Row] = []
        if kind == "organization" and "name" in taken:
            rows += self.client.organizations.search(name=str(candidate.body["name"]))
        elif "email" in taken and candidate.body.get("email"):
            rows += self.client.users.search(email=str(candidate.body["email"]))
        group = self.client.organizations if kind == "organization" else self.client.users
        if "external_id" in taken:
            rows += group.show_many(external_ids=[candidate.external_id])
        return rows

    def _written(self, one: Sending, kind: RecordKind, answer: Row | QadzdError | None) -> Ended | None:
        if not isinstance(answer, dict):
            return None
        ended = succeeded(one.item, int(answer["id"]), held(kind, answer, self.rules.mapping).digest)
        return replace(ended, fingerprint=one.candidate.fingerprint, remember=one.change.remember)

    def _end(self, kind: RecordKind, item: Item, outcome: str, detail: str) -> None:
        ended = Ended(kind, item.record_key, outcome, detail, change_id=item.change_id)
        changes.end(self.ledger, self.flow, [ended], self.run)


def succeeded(item: Item, zendesk_id: int, base: str) -> Ended:
    """What was intended has become so: the record is linked, and `base` is the digest of what Zendesk has now."""
    return Ended(
        item.kind, item.record_key, item.intended, change_id=item.change_id, linked=True, zendesk_id=zendesk_id,
        base=base, fingerprint=item.fingerprint, difference=item.difference, remember=item.remember,
    )  # fmt: skip
