"""Edits as people make them, in QAD and in Zendesk, straight in the sandbox's state.

Everything in Zendesk that people made or changed is remembered as they left it, so that it can be told afterwards
whether it was ours to touch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sandbox.qad_store import Contact, Customer
from airflow_provider_qadzd.sandbox.state import State
from airflow_provider_qadzd.sandbox.zendesk import identities, memberships, merges, organizations, people
from airflow_provider_qadzd.sandbox.zendesk.errors import Invalid
from airflow_provider_qadzd.sandbox.zendesk.models import Organization, User

STAFF = ("agent", "admin")
OURS_OF_ORGANIZATION = (
    "qad_customer", "qad_status", "qad_link", "qad_orders", "qad_billing", "qad_city", "qad_country",
)  # fmt: skip
OURS_OF_USER = ("qad_contact", "qad_function")
OUR_TAG = "qad_inactive"
NAMES = ("Ålpha Works", "ålpha works", "Beta Ltd", "Walk-in enquiries", "Harrow & Pike Ltd", "Gamma  SA", "")
MAILS = ("one@pool.example", "ONE@pool.example", "two@pool.example", "three@pool.example", "", "not an address",
         "mina.walsh@support-desk.example", "theo.brandt@support-desk.example")  # fmt: skip

Protected = dict[tuple[Any, ...], Any]


Made = tuple[frozenset[int], ...]
"""The ids of organizations, users, memberships and addresses."""


def made_in(state: State) -> Made:
    """Those that there are."""
    store = state.zendesk
    return (
        frozenset(store.organizations.rows), frozenset(store.users.rows), frozenset(store.memberships.rows),
        frozenset(store.identities.rows),
    )  # fmt: skip


class Hands:
    """People at work, and what they would be angry to find changed."""

    def __init__(self, sandbox: Sandbox, made: Made) -> None:
        self.state: State = sandbox.state
        self.organizations, self.users, self.memberships, self.identities = (set(ids) for ids in made)
        self.seen: dict[tuple[str, int], Any] = {}
        """Records made by people, as people last saw them."""
        self.baseline: Protected = {}
        self.look()

    # -- QAD -----------------------------------------------------------------------------------------------------------

    def customer(self, code: str, **values: Any) -> None:
        """Change a customer, or make it."""
        with self.state.lock:
            store = self.state.qad
            row = store.customers.get(code) or Customer(
                code,
                "New customer",
                f"BR-{code}",
                "NEW",
                "1 Mill Lane",
                "Leeds",
                "LS1 4AP",
                "GBR",
                "",
                None,
                "OEM",
                0.0,
            )
            row.modified = self.state.now
            for name, value in values.items():
                setattr(row, name, value)
            store.put_customer(row)

    def contact(self, contact_id: int, **values: Any) -> None:
        """Change a contact, or make it."""
        with self.state.lock:
            store = self.state.qad
            row = store.contacts.get(contact_id) or Contact(
                contact_id, f"Contact {contact_id}", "", "", "", "", "", f"BR-{contact_id}", [], 0.0
            )
            row.modified = self.state.now
            for name, value in values.items():
                setattr(row, name, value)
            store.put_contact(row)

    # -- Zendesk -------------------------------------------------------------------------------------------------------

    def edit(self, how: Callable[[State], Any]) -> Any:
        """Something done by hand in Zendesk. What Zendesk refuses is not done."""
        state = self.state
        with state.lock:
            state.settle()
            self.check()
            before = made_in(state)
            try:
                done = how(state)
            except Invalid:
                done = None
            after = made_in(state)
            for mine, old, new in zip(
                (self.organizations, self.users, self.memberships, self.identities), before, after, strict=True
            ):
                mine |= new - old
            self.look()
        return done

    def organization(self, row: Organization, edit: str, value: str) -> None:
        """One of the things that people do to an organization."""
        changes = {
            "name": {"name": value}, "tags": {"tags": ["vip", value or "x"]}, "notes": {"notes": value},
            "domains": {"domain_names": [f"{row.id}.example"]}, "region": {"organization_fields": {"region": value}},
            "city": {"organization_fields": {"qad_city": value}}, "unkey": {"external_id": None},
            "key": {"external_id": f"other {value}"},
        }  # fmt: skip
        if edit == "delete":
            self.edit(lambda state: organizations.remove(state, row))
        else:
            self.edit(lambda state: organizations.change(state, row, changes[edit]))

    def user(self, row: User, edit: str, value: str) -> None:
        """One of the things that people do to a user."""
        changes: dict[str, dict[str, Any]] = {
            "name": {"name": value}, "tags": {"tags": ["vip"]}, "notes": {"notes": value},
            "function": {"user_fields": {"qad_function": value}}, "phone": {"phone": "1"},
            "channel": {"user_fields": {"preferred_channel": value}}, "agent": {"role": "agent"},
            "end-user": {"role": "end-user"}, "suspend": {"suspended": True}, "unkey": {"external_id": None},
            "key": {"external_id": f"other {value}"},
        }  # fmt: skip
        if edit == "delete":
            self.edit(lambda state: people.remove(state, row))
        else:
            self.edit(lambda state: people.change(state, row, changes[edit]))

    def new_user(self, email: str, external_id: str | None) -> None:
        values = {"name": "Made by hand", "email": email or None, "external_id": external_id, "skip_verify_email": True}
        self.edit(lambda state: people.create(state, values))

    def second_email(self, row: User, email: str) -> None:
        def add(state: State) -> None:
            identities.check_email(state, email, None, "email")
            identities.add(state, row, email, primary=False, verified=False)
            people.change(state, row, {})

        self.edit(add)

    def join(self, row: User, organization: Organization) -> None:
        self.edit(lambda state: memberships.add(state, row, organization))

    def merge_users(self, loser: User, winner: User) -> None:
        self.edit(lambda state: merges.merge_users(state, loser, winner))

    def merge_organizations(self, loser: Organization, winner: Organization) -> None:
        self.edit(lambda state: merges.merge_organizations(state, loser, winner))

    # -- whether we touched what is theirs -----------------------------------------------------------------------------

    def look(self) -> None:
        """From now on, what is there now must stay."""
        self.baseline = self.protected()
        store = self.state.zendesk
        for kind, mine, rows in (
            ("organization", self.organizations, store.organizations.rows), ("user", self.users, store.users.rows)
        ):  # fmt: skip
            self.seen.update(((kind, one), bare(rows[one])) for one in mine & set(rows))

    def check(self) -> None:
        """Nothing of theirs was changed since the last look."""
        now = self.protected()
        for what, before in self.baseline.items():
            if what[0] == "email of" and before is None:
                continue
            assert what in now, f"{what} is gone, it was {before}"
            assert now[what] == before, f"{what} was {before} and is {now[what]}"

    def protected(self) -> Protected:
        """Staff whole; of everybody and every organization what is not ours; memberships and addresses by hand."""
        store, found = self.state.zendesk, Protected()
        for organization in store.organizations:
            row = msgspec.to_builtins(organization)
            for name in ("name", "external_id", "updated_at"):
                del row[name]
            row["organization_fields"] = _but(row["organization_fields"], OURS_OF_ORGANIZATION)
            row["tags"] = [tag for tag in row["tags"] if tag != OUR_TAG]
            found["organization", organization.id] = row
        for user in store.users:
            if user.role in STAFF:
                found["staff", user.id] = msgspec.to_builtins(user)
                found["addresses of staff", user.id] = [row.value for row in store.identities_for(user.id)]
                found["memberships of staff", user.id] = [row.id for row in store.memberships_for(user.id)]
                continue
            row = msgspec.to_builtins(user)
            found["email of", user.id] = row["email"]
            for name in ("name", "external_id", "updated_at", "organization_id", "email", "verified"):
                del row[name]
            row["user_fields"] = _but(row["user_fields"], OURS_OF_USER)
            row["tags"] = [tag for tag in row["tags"] if tag != OUR_TAG]
            found["user", user.id] = row
        for one in self.memberships & set(store.memberships.rows):
            membership = store.memberships.rows[one]
            found["membership", one] = (membership.user_id, membership.organization_id)
        for one in self.identities & set(store.identities.rows):
            found["identity", one] = (store.identities.rows[one].user_id, store.identities.rows[one].value)
        return found


def bare(row: Organization | User) -> dict[str, Any]:
    """A record without what follows from other records."""
    found = msgspec.to_builtins(row)
    return {name: value for name, value in found.items() if name not in ("organization_id", "updated_at")}


def _but(fields: dict[str, Any], ours: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in ours}
