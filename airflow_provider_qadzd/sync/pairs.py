"""Memberships and secondary emails: what ties a user to one more organization, or to one more address.

Both are only ever added here, and only remembered as ours when Zendesk's answer says that we made them; what was there
before is adopted and stays when QAD no longer asks for it. Neither can be read in bulk: the user's own list tells.
Staff, and users who are gone, get neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_provider_qadzd.errors import FixFirst, SetAside, TryLater
from airflow_provider_qadzd.ledger import Ledger, changes, members
from airflow_provider_qadzd.ledger.applying import ApplierLease
from airflow_provider_qadzd.ledger.changes import Change as Item
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.records import fold
from airflow_provider_qadzd.sync.mapping import Rules
from airflow_provider_qadzd.sync.mirror import observe
from airflow_provider_qadzd.sync.plan import STAFF
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import JobStatus, NotFound

CHUNK = 100
"""How many records Zendesk takes in one call, and one job."""

FEW = 3
"""Up to this many changes go singly: a job costs a poll and a look as well."""

_LOOKED_AT = 10

REFUSED = "refused_by_zendesk"
"""How the detail begins of what is set aside because Zendesk refused it."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sends and looks for memberships and identities of one flow."""

    ledger: Ledger
    flow: Flow
    client: ZendeskClient
    rules: Rules

    def first_organizations(self, contacts: Sequence[str]) -> dict[str, int]:
        """The organization that each new user is created in, so that this membership costs no call of its own.

        It is the first one that the last complete read of contacts saw them in, if it has its record.
        """
        return members.first_organizations(self.ledger, self.flow, contacts)

    def user_ids(self, items: Sequence[Item]) -> list[int]:
        """The users that these are about, as far as they are linked."""
        return sorted({user.zendesk_id for user in self._users(items).values()})

    def missing(self, items: Sequence[Item], run: str) -> list[Item]:
        """Those of them that need a call, as the mirror has it; the others are over."""
        return [item for item, _, _ in self._missing(items, run)]

    def send(self, lease: ApplierLease, items: Sequence[Item], run: str) -> int:
        """Add what is not there yet. How many writes Zendesk took. The mirror has just been read for these users."""
        missing = self._missing(items, run)
        if items[0].kind == "identity":
            return sum(self._add_identity(lease, item, user_id, run) for item, user_id, _ in missing)
        if len(missing) > FEW and items[0].attempts < changes.SINGLY:
            return self._add_many(lease, missing)
        return sum(self._add_membership(lease, *one, run) for one in missing)

    def _missing(self, items: Sequence[Item], run: str) -> list[tuple[Item, int, int]]:
        """What is to be added, with the ids of user and organization (0 for an identity); the others are over."""
        users, organizations = self._users(items), self._organizations(items)
        missing: list[tuple[Item, int, int]] = []
        ended: list[Ended] = []
        for item in items:
            user, organization = users.get(item.record_key), organizations.get(item.other_key)
            if user is None or (item.kind == "membership" and organization is None):
                waits_for = "user" if user is None else "organization"
                ended.append(_ended(item, "postponed", f"waits for its {waits_for}"))
            elif not user.active:
                ended.append(_ended(item, "set_aside", "user_deleted_in_zendesk"))
            elif user.user_role in STAFF:
                ended.append(_ended(item, "set_aside", f"is_{user.user_role}"))
            elif item.kind == "identity" and user.email_folded == item.other_key:
                ended.append(_ended(item, "unchanged", linked=True, ours=False))
            elif item.kind == "membership" and user.organization_id == organization:
                # A user of ours starts in its first organization; any other default was there before.
                ours = user.last_outcome == "created" and not user.memberships
                outcome, detail = ("membership_added", "with the user") if ours else ("adopted", "")
                ended.append(_ended(item, outcome, detail, linked=True, ours=ours))
            else:
                missing.append((item, int(user.zendesk_id), organization or 0))
        changes.end(self.ledger, self.flow, ended, run)
        return missing

    def look_for(self, items: Sequence[Item], job: JobStatus | None, run: str) -> None:
        """What is there is over, what is not is planned again.

        Where every row of a job went well, all of them are there and ours: Zendesk refuses a membership that exists.
        Else the users' lists tell.
        """
        if not items:
            return
        rows = job.results if job else ()
        if job and job.status == "completed" and len(rows) == len(items) and all(row.ok for row in rows):
            changes.end(self.ledger, self.flow, [_ended(item, "membership_added", linked=True) for item in items], run)
            return
        for start in range(0, len(items), _LOOKED_AT):
            self._look_for(items[start : start + _LOOKED_AT], job, run)

    def _look_for(self, items: Sequence[Item], job: JobStatus | None, run: str) -> None:
        """Each of a few by its user's own list, written down before the next few: the calls may be used up any time."""
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
        changes.end(self.ledger, self.flow, ended, run)
        if again:
            completed = job is not None and job.status == "completed"
            changes.plan_again(self.ledger, again, "singly" if completed else "smaller")

    def _add_many(self, lease: ApplierLease, missing: Sequence[tuple[Item, int, int]]) -> int:
        ids = [item.change_id for item, _, _ in missing]
        changes.mark_sent(self.ledger, lease, ids)
        try:
            job = self.client.memberships.create_many([(user, organization) for _, user, organization in missing])
        except TryLater as error:
            changes.not_answered(self.ledger, ids, error)
            raise
        except FixFirst:
            changes.plan_again(self.ledger, ids, "same")
            raise
        except SetAside:
            changes.plan_again(self.ledger, ids, "smaller")
            return 0
        changes.mark(self.ledger, ids, job_id=job.id)
        return 1

    def _add_membership(
        self, lease: ApplierLease, item: Item, user: int, organization: int, run: str
    ) -> int:  # fmt: skip
        def add() -> int:
            return int(self.client.memberships.create(user, organization)["id"])

        return self._add(lease, item, add, "membership_added", "", run)

    def _add_identity(self, lease: ApplierLease, item: Item, user: int, run: str) -> int:
        found, primary = self._present(item), self.rules.policies.email_changed == "make_primary"
        if found is not None and not primary:
            there = _ended(item, "adopted", linked=True, zendesk_id=found, ours=False)
            changes.end(self.ledger, self.flow, [there], run)
            return 0

        def add() -> int:
            if found is None:
                return int(self.client.identities.create(user, item.other_key, primary=primary)["id"])
            self.client.identities.make_primary(user, found)
            return found

        taken = self._add(lease, item, add, "updated", "email made primary" if primary else "email added", run)
        if primary:
            seen = self.client.users.show_many(ids=[user])
            observe(self.ledger, self.flow.account_id, "user", seen, self.rules.mapping, [user])
        return taken

    def _add(
        self, lease: ApplierLease, item: Item, add: Callable[[], int], outcome: str, detail: str, run: str
    ) -> int:  # fmt: skip
        """One single call, its intent first and its outcome after. How many writes Zendesk took."""
        changes.mark_sent(self.ledger, lease, [item.change_id])
        try:
            made = add()
        except TryLater as error:
            changes.not_answered(self.ledger, [item.change_id], error)
            raise
        except FixFirst:
            changes.plan_again(self.ledger, [item.change_id], "same")
            raise
        except SetAside as error:
            found = self._present(item)
            refused = _ended(item, "set_aside", refusal(error))
            there = _ended(item, "adopted", linked=True, zendesk_id=found, ours=False)
            changes.end(self.ledger, self.flow, [refused if found is None else there], run)
            return 0
        changes.end(self.ledger, self.flow, [_ended(item, outcome, detail, linked=True, zendesk_id=made)], run)
        return 1

    def _present(self, item: Item) -> int | None:
        """The id of the membership or identity in the user's own list, None if it is not there."""
        user = changes.linked_id(self.ledger, self.flow, "user", item.record_key)
        if user is None:
            return None
        try:
            if item.kind == "identity":
                rows = self.client.identities.of_user(user)
                return next((int(row["id"]) for row in rows if fold(row.get("value") or "") == item.other_key), None)
            organization = changes.linked_id(self.ledger, self.flow, "organization", item.other_key)
            rows = self.client.memberships.of_user(user)
            return next((int(row["id"]) for row in rows if row["organization_id"] == organization), None)
        except NotFound:
            return None

    # -- what the ledger knows of them ---------------------------------------------------------------------------------

    def _users(self, items: Sequence[Item]) -> dict[str, members.UserRow]:
        return members.linked_users(self.ledger, self.flow, (item.record_key for item in items))

    def _organizations(self, items: Sequence[Item]) -> dict[str, int]:
        customers = (item.other_key for item in items if item.kind == "membership")
        return members.linked_organizations(self.ledger, self.flow, customers)


def refusal(error: SetAside) -> str:
    """Why Zendesk refused, by its codes alone."""
    codes = ", ".join(f"{name} {code}" for name, code in error.facts.details)
    return f"{REFUSED} {codes or error.facts.code}".strip()


def _ended(
    item: Item, outcome: str, detail: str = "", *, linked: bool = False, zendesk_id: int | None = None,
    ours: bool = True,
) -> Ended:  # fmt: skip
    return Ended(
        item.kind, item.record_key, outcome, detail, other=item.other_key, change_id=item.change_id, linked=linked,
        zendesk_id=zendesk_id, ours=ours,
    )  # fmt: skip
