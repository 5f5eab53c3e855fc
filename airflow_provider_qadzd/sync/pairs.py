"""Memberships and secondary emails: what ties a user to one more organization, or to one more address.

Both are only ever added here, and only remembered as ours when Zendesk's answer says that we made them; what was there
before is adopted and stays when QAD no longer asks for it. Neither can be read in bulk: the user's own list tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, select

from airflow_provider_qadzd.errors import SetAside, TryLater
from airflow_provider_qadzd.ledger import Ledger, changes
from airflow_provider_qadzd.ledger.changes import Change as Item
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import mirror, qad_contact_of
from airflow_provider_qadzd.records import fold
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import JobStatus

FEW = 3
"""Up to this many memberships go singly: a job costs a poll as well."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sends and looks for memberships and identities of one flow."""

    ledger: Ledger
    flow: Flow
    client: ZendeskClient

    def first_organization(self, contact: str) -> int | None:
        """The organization that a new user is created in, so that this membership costs no call of its own."""
        asked = (
            select(qad_contact_of.c.customer_key)
            .where(qad_contact_of.c.source_id == self.flow.source_id, qad_contact_of.c.contact_key == contact)
            .order_by(qad_contact_of.c.customer_key)
        )
        with self.ledger.reading() as tx:
            customers = list(tx.execute(asked).scalars())
        linked = (changes.linked_id(self.ledger, self.flow, "organization", customer) for customer in customers)
        return next((found for found in linked if found is not None), None)

    def send(self, lease: changes.ApplierLease, items: Sequence[Item], run: str) -> int:
        """Add what is not there yet. How many writes Zendesk took."""
        if items[0].kind == "identity":
            return sum(self._add_identity(lease, item, run) for item in items)
        missing: list[tuple[Item, int, int]] = []
        ended: list[Ended] = []
        for item in items:
            user = changes.linked_id(self.ledger, self.flow, "user", item.record_key)
            organization = changes.linked_id(self.ledger, self.flow, "organization", item.other_key)
            if user is None or organization is None:
                waits_for = "user" if user is None else "organization"
                ended.append(_ended(item, "postponed", f"waits for its {waits_for}"))
            elif self._default_organization(user) == organization:
                ended.append(_ended(item, "membership_added", "with the user", linked=True))
            else:
                missing.append((item, user, organization))
        self._settle(ended, run)
        if len(missing) > FEW and items[0].attempts == 0:
            return self._add_many(lease, missing)
        return sum(self._add_membership(lease, *one, run) for one in missing)

    def look_for(self, items: Sequence[Item], job: JobStatus | None, run: str) -> None:
        """Read the users' lists: what is there is over, what is not is planned again, singly."""
        made = {row.id for row in job.results if row.ok} if job else set()
        ended, again = [], []
        for item in items:
            found = self._present(item)
            if found is None:
                again.append(item.change_id)
            elif item.kind == "identity":
                ended.append(_ended(item, "updated", "email added", linked=True, zendesk_id=found, ours=False))
            else:
                ours = found in made
                outcome = "membership_added" if ours else "adopted"
                ended.append(_ended(item, outcome, linked=True, zendesk_id=found, ours=ours))
        self._settle(ended, run)
        if again:
            changes.plan_again(self.ledger, again, singly=True)

    def _add_many(self, lease: changes.ApplierLease, missing: Sequence[tuple[Item, int, int]]) -> int:
        ids = [item.change_id for item, _, _ in missing]
        changes.mark_sent(self.ledger, lease, ids)
        try:
            job = self.client.memberships.create_many([(user, organization) for _, user, organization in missing])
        except TryLater as error:
            changes.not_answered(self.ledger, ids, error)
            raise
        changes.mark(self.ledger, ids, job_id=job.id)
        return 1

    def _add_membership(
        self, lease: changes.ApplierLease, item: Item, user: int, organization: int, run: str
    ) -> int:  # fmt: skip
        changes.mark_sent(self.ledger, lease, [item.change_id])
        try:
            made = self.client.memberships.create(user, organization)
        except TryLater as error:
            changes.not_answered(self.ledger, [item.change_id], error)
            raise
        except SetAside as error:
            found = self._present(item)
            one = (
                _ended(item, "set_aside", _told(error))
                if found is None
                else _ended(item, "adopted", linked=True, zendesk_id=found, ours=False)
            )
            self._settle([one], run)
            return 0
        self._settle([_ended(item, "membership_added", linked=True, zendesk_id=int(made["id"]))], run)
        return 1

    def _add_identity(self, lease: changes.ApplierLease, item: Item, run: str) -> int:
        user = changes.linked_id(self.ledger, self.flow, "user", item.record_key)
        if user is None:
            self._settle([_ended(item, "postponed", "waits for its user")], run)
            return 0
        found = self._present(item)
        if found is not None:
            self._settle([_ended(item, "adopted", linked=True, zendesk_id=found, ours=False)], run)
            return 0
        changes.mark_sent(self.ledger, lease, [item.change_id])
        try:
            made = self.client.identities.create(user, item.other_key)
        except TryLater as error:
            changes.not_answered(self.ledger, [item.change_id], error)
            raise
        except SetAside as error:
            self._settle([_ended(item, "set_aside", _told(error))], run)
            return 0
        self._settle([_ended(item, "updated", "email added", linked=True, zendesk_id=int(made["id"]))], run)
        return 1

    def _present(self, item: Item) -> int | None:
        """The id of the membership or identity in the user's own list, None if it is not there."""
        user = changes.linked_id(self.ledger, self.flow, "user", item.record_key)
        if user is None:
            return None
        if item.kind == "identity":
            rows = self.client.identities.of_user(user)
            return next((int(row["id"]) for row in rows if fold(row.get("value") or "") == item.other_key), None)
        organization = changes.linked_id(self.ledger, self.flow, "organization", item.other_key)
        rows = self.client.memberships.of_user(user)
        return next((int(row["id"]) for row in rows if row["organization_id"] == organization), None)

    def _default_organization(self, user: int) -> int | None:
        named = and_(mirror.c.account_id == self.flow.account_id, mirror.c.kind == "user", mirror.c.zendesk_id == user)
        with self.ledger.reading() as tx:
            found = tx.execute(select(mirror.c.organization_id).where(named)).scalar_one_or_none()
        return None if found is None else int(found)

    def _settle(self, ended: Sequence[Ended], run: str) -> None:
        if ended:
            with self.ledger.writing() as tx:
                changes.settle(tx, self.ledger, self.flow, ended, run)


def _ended(
    item: Item, outcome: str, detail: str = "", *, linked: bool = False, zendesk_id: int | None = None,
    ours: bool = True,
) -> Ended:  # fmt: skip
    return Ended(
        item.kind, item.record_key, outcome, detail, other=item.other_key, change_id=item.change_id, linked=linked,
        zendesk_id=zendesk_id, ours=ours,
    )  # fmt: skip


def _told(error: SetAside) -> str:
    codes = ", ".join(f"{name} {code}" for name, code in error.facts.details)
    return f"refused_by_zendesk {codes or error.facts.code}".strip()
