"""Contacts who moved: their default organization follows them, and the membership that we added before is removed.

Removing a membership unties the user's open tickets from the organization, so Zendesk is asked for those just before,
and everything else that speaks for the removal is looked at again. Staff, and users who are gone, are left alone, as is
every membership that somebody else has made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_qadzd.errors import FixFirst, SetAside, TryLater
from airflow_provider_qadzd.ledger import Ledger, absence, changes, members, moves
from airflow_provider_qadzd.ledger.applying import ApplierLease
from airflow_provider_qadzd.ledger.changes import Change as Item
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.records import digest, fold
from airflow_provider_qadzd.sync.absence import Patience
from airflow_provider_qadzd.sync.mapping import FieldMapping
from airflow_provider_qadzd.sync.mirror import observe
from airflow_provider_qadzd.sync.pairs import refusal
from airflow_provider_qadzd.sync.plan import STAFF
from airflow_provider_qadzd.sync.policies import Policies
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import NotFound

DEFAULT, REMOVE = "make_default", "remove"
OPERATIONS = (DEFAULT, REMOVE)
"""What is done to memberships here; adding them is `pairs`."""


def planned_moves(
    ledger: Ledger, flow: Flow, policies: Policies, patience: Patience, run: str
) -> list[dict[str, Any]]:  # fmt: skip
    """The changes to memberships that moved contacts call for, as rows of a plan."""
    moves.note_ended(ledger, flow, run)
    rows = [_row(flow, DEFAULT, "updated", pair) for pair in moves.to_make_default(ledger, flow)]
    before = absence.bound(ledger, flow.source_id, "contact", patience.reads, patience.hours * 3600)
    if policies.contact_moved == "remove" and before is not None:
        rows += [_row(flow, REMOVE, "membership_removed", pair) for pair in moves.to_remove(ledger, flow, before)]
    return rows


def _row(flow: Flow, operation: str, intended: str, pair: moves.Pair) -> dict[str, Any]:
    contact, customer = pair
    # An addition and a removal of one membership must never be open at once; a new default is about the user.
    other = customer if operation == REMOVE else operation
    return {
        "kind": "membership", "record_key": contact, "other_key": customer, "operation": operation,
        "target": digest(flow.flow_id, fold(contact), other), "intended": intended,
        "difference": {customer: [True, None]} if operation == REMOVE else {"default organization": [None, customer]},
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moves:
    """Sends and looks for changes to memberships of one flow."""

    ledger: Ledger
    flow: Flow
    client: ZendeskClient
    mapping: FieldMapping

    def send(self, lease: ApplierLease, items: Sequence[Item], run: str) -> int:
        """Decide again and send, one by one. How many writes Zendesk took. The mirror has just been read for them."""
        users = members.linked_users(self.ledger, self.flow, (item.record_key for item in items))
        homes = members.linked_organizations(self.ledger, self.flow, (item.other_key for item in items))
        return sum(
            self._send(lease, item, users.get(item.record_key), homes.get(item.other_key, 0), run) for item in items
        )  # fmt: skip

    def look_for(self, items: Sequence[Item], run: str) -> None:
        """What has become so is over, what has not is planned again."""
        users = members.linked_users(self.ledger, self.flow, (item.record_key for item in items))
        homes = members.linked_organizations(self.ledger, self.flow, (item.other_key for item in items))
        over, again = [], []
        for item in items:
            user, home = users.get(item.record_key), homes.get(item.other_key, 0)
            there = [] if user is None else self._memberships(int(user.zendesk_id))
            of_home = next((row for row in there if row["organization_id"] == home), None)
            if item.operation == REMOVE and of_home is None:
                over.append(_over(item, "membership_removed", unlinked=True))
            elif item.operation == DEFAULT and of_home is not None and of_home.get("default"):
                over.append(_over(item, "updated", "made the default"))
            else:
                again.append(item.change_id)
        changes.end(self.ledger, self.flow, over, run)
        if again:
            changes.plan_again(self.ledger, again, "same")

    def _send(self, lease: ApplierLease, item: Item, user: members.UserRow | None, home: int, run: str) -> int:
        settled = self._not_to_send(item, user, home)
        if user is None or settled is not None:
            changes.end(self.ledger, self.flow, [settled or _over(item, "postponed", "waits for its user")], run)
            return 0
        user_id = int(user.zendesk_id)
        rows = self._memberships(user_id)
        membership = next((int(row["id"]) for row in rows if row["organization_id"] == home), None)
        if membership is None:
            was_gone = _over(item, "membership_removed", "was gone already", unlinked=True)
            not_yet = _over(item, "postponed", "waits for its membership")
            changes.end(self.ledger, self.flow, [was_gone if item.operation == REMOVE else not_yet], run)
            return 0
        if item.operation == REMOVE:
            opened = self._open_tickets(user_id, home)
            if opened:
                changes.end(self.ledger, self.flow, [_over(item, "postponed", f"{opened} open tickets there")], run)
                return 0
            over = _over(item, "membership_removed", unlinked=True)
            return self._write(lease, item, lambda: self.client.memberships.delete(membership), over, run)

        def make_default() -> None:
            self.client.memberships.make_default(user_id, membership)

        over = _over(item, "updated", "made the default")
        taken = self._write(lease, item, make_default, over, run)
        found = self.client.users.show_many(ids=[user_id])
        observe(self.ledger, self.flow.account_id, "user", found, self.mapping, [user_id])
        return taken

    def _not_to_send(self, item: Item, user: members.UserRow | None, home: int) -> Ended | None:
        """Why nothing is sent after all, by what the ledger knows now."""
        if user is None:
            return None
        if not user.active:
            return _over(item, "set_aside", "user_deleted_in_zendesk")
        if user.user_role in STAFF:
            return _over(item, "set_aside", f"is_{user.user_role}")
        if item.operation == DEFAULT and user.organization_id == home:
            return _over(item, "unchanged")
        pair = (item.record_key, item.other_key)
        if item.operation == REMOVE:
            still = moves.to_remove(self.ledger, self.flow, _NOW, only=pair)
        else:
            still = moves.to_make_default(self.ledger, self.flow, only=pair)
        return None if still else _over(item, "superseded", "decided anew")

    def _memberships(self, user_id: int) -> list[dict[str, Any]]:
        try:
            return self.client.memberships.of_user(user_id)
        except NotFound:
            return []

    def _open_tickets(self, user_id: int, home: int) -> int:
        """How many tickets would be untied: those that the ledger has never seen count as well."""
        rows = self.client.tickets.requested_by(user_id)
        return sum(row.get("organization_id") == home and row.get("status") not in moves.OVER for row in rows)

    def _write(
        self, lease: ApplierLease, item: Item, call: Callable[[], None], over: Ended, run: str
    ) -> int:  # fmt: skip
        """One call, its intent first and its outcome after. How many writes Zendesk took."""
        changes.mark_sent(self.ledger, lease, [item.change_id])
        try:
            call()
        except TryLater as error:
            changes.not_answered(self.ledger, [item.change_id], error)
            raise
        except FixFirst:
            changes.plan_again(self.ledger, [item.change_id], "same")
            raise
        except NotFound:
            gone = item.operation == REMOVE
            changes.end(self.ledger, self.flow, [over if gone else _over(item, "failed_retryable", "gone")], run)
            return 0
        except SetAside as error:
            changes.end(self.ledger, self.flow, [_over(item, "set_aside", refusal(error))], run)
            return 0
        changes.end(self.ledger, self.flow, [over], run)
        return 1


def _over(item: Item, outcome: str, detail: str = "", *, unlinked: bool = False) -> Ended:
    return Ended(
        item.kind, item.record_key, outcome, detail, other=item.other_key, change_id=item.change_id, unlinked=unlinked,
        difference=item.difference,
    )  # fmt: skip


_NOW = 2**62
"""Later than any read: how long it has been missing was judged when the plan was made; what counts now is whether any
read has seen it again."""
