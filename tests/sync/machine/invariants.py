"""What must hold after a clean run, read from the sandbox's own state and the ledger's tables by plain SQL.

None of the code under test is asked here: what is wanted follows from the rows of QAD themselves, and a reason for
setting a record aside must be true of what Zendesk has.
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

from airflow_provider_qadzd.sandbox.state import State
from airflow_provider_qadzd.sandbox.zendesk.models import Organization, User
from tests.sync.machine.hands import OUR_TAG, STAFF, Hands, bare

EMAIL = re.compile(r"[^@\s,;<>()\"]+@[^@\s,;<>()\"]+\.[^@\s.,;<>()\"]+")
DONE = ("created", "updated", "unchanged", "adopted", "recreated", "deactivated")
Row = dict[str, Any]


def fold(text: object) -> str:
    """As Zendesk compares."""
    return unicodedata.normalize("NFC", str(text or "")).strip().lower()


class Found:
    """Everything there is after a clean run."""

    def __init__(self, state: State, ledger: sqlite3.Connection, hands: Hands, page: str) -> None:
        self.state, self.hands, self.page, self._ledger = state, hands, page, ledger
        self.zendesk = state.zendesk
        self.wanted = {(row["kind"], row["record_key"]): row for row in self._rows("wanted")}
        self.links = {(row["kind"], row["record_key"], row["other_key"]): row for row in self._rows("link")}
        self.open = [row for row in self._rows("change_item") if row["change_state"] != "done"]

    def _rows(self, table: str) -> Iterator[Row]:
        cursor = self._ledger.execute(f"SELECT * FROM qadzd_{table}")  # noqa: S608
        names = [column[0] for column in cursor.description]
        return (dict(zip(names, row, strict=True)) for row in cursor.fetchall())

    def check(self) -> None:
        """Every invariant."""
        self.hands.check()
        assert not self.open, f"still open: {self.open}"
        assert self.state.stats.verification_mails == 0, "a contact got mail"
        self.nothing_twice()
        self.every_row_has_its_outcome()
        self.what_we_made_is_linked()
        self.what_is_theirs_is_as_they_left_it()
        for (kind, key), row in self.wanted.items():
            Outcome(self, kind, key, row).check()
        self.memberships_are_there()
        self.ours_is_ours()

    # -- the whole -----------------------------------------------------------------------------------------------------

    def nothing_twice(self) -> None:
        store = self.zendesk
        people = [row for row in store.users if row.active]
        for what, values in {
            "external id of organizations": [fold(row.external_id) for row in store.organizations if row.external_id],
            "name of organizations": [fold(row.name) for row in store.organizations],
            "external id of users": [fold(row.external_id) for row in people if row.external_id],
            "address": [fold(row.value) for row in store.identities if row.type == "email"],
            "membership": [(row.user_id, row.organization_id) for row in store.memberships],
            "link": [(kind, row["zendesk_id"]) for (kind, _, _), row in self.links.items() if row["zendesk_id"]],
        }.items():
            twice = [value for value, count in Counter(values).items() if count > 1]
            assert not twice, f"twice the same {what}: {twice}"

    def every_row_has_its_outcome(self) -> None:
        keys = {("organization", code) for code in self.state.qad.customers}
        keys |= {("user", str(one.id)) for one in self.state.qad.contacts.values() if one.customers}
        missing = keys - set(self.wanted)
        assert not missing, f"not wanted: {missing}"
        for key, row in self.wanted.items():
            assert row["last_outcome"] in (*DONE, "set_aside", "shared_with"), f"{key}: {row['last_outcome']!r}"

    def what_we_made_is_linked(self) -> None:
        linked = {(kind, row["zendesk_id"]) for (kind, _, _), row in self.links.items()}
        store = self.zendesk
        made = [("organization", row) for row in store.organizations if row.id not in self.hands.organizations]
        made += [("user", row) for row in store.users if row.id not in self.hands.users and row.active]  # type: ignore[misc]
        for kind, row in made:
            assert (kind, row.id) in linked or self._twin_of_a_key(kind, row), f"we made and forgot {kind} {row}"

    def _twin_of_a_key(self, kind: str, row: Organization | User) -> bool:
        """Made before its case twin came, and forgotten with a lost answer: both twins wait for a person."""
        same = [
            one
            for one in self.wanted.values()
            if one["kind"] == kind and one["external_folded"] == fold(row.external_id)
        ]
        return len(same) > 1

    def what_is_theirs_is_as_they_left_it(self) -> None:
        """Who was made by people and is linked to no key is just as people last saw it."""
        linked = {(kind, row["zendesk_id"]) for (kind, _, _), row in self.links.items()}
        store = self.zendesk
        for (kind, one), before in self.hands.seen.items():
            rows: dict[int, Any] = store.organizations.rows if kind == "organization" else store.users.rows
            if (kind, one) not in linked and one in rows:
                now = bare(rows[one])
                if kind == "user" and self._address_given(one, before, now):
                    continue
                assert now == before, f"{kind} {one} was {before} and is {now}"

    def _address_given(self, one: int, before: Row, now: Row) -> bool:
        return {**before, "email": now["email"], "verified": now["verified"]} == now and before["email"] is None

    # -- who belongs where ---------------------------------------------------------------------------------------------

    def owner(self, contact: str) -> str:
        """Whose user this contact is."""
        row = self.wanted["user", contact]
        return row["last_detail"] if row["last_outcome"] == "shared_with" else contact

    def usable(self, contact: str) -> User | None:
        """The end user of a contact, if there is one."""
        link = self.links.get(("user", contact, ""))
        user = None if link is None else self.zendesk.users.get(link["zendesk_id"])
        return user if user is not None and user.active and user.role not in STAFF else None

    def organization(self, customer: str) -> Organization | None:
        link = self.links.get(("organization", customer, ""))
        return None if link is None else self.zendesk.organizations.get(link["zendesk_id"])

    def memberships_are_there(self) -> None:
        there = {(row.user_id, row.organization_id) for row in self.zendesk.memberships}
        for contact in (one for one in self.state.qad.contacts.values() if one.customers):
            owner = self.owner(str(contact.id))
            if self.wanted["user", owner]["last_outcome"] == "set_aside":
                continue
            for customer in contact.customers:
                user, organization = self.usable(owner), self.organization(customer)
                if user is not None and organization is not None and customer in self.state.qad.customers:
                    assert (user.id, organization.id) in there, f"{contact.id} is not a member of {customer}"

    def ours_is_ours(self) -> None:
        """A membership that we say we made was made by us: it is what we may remove one day."""
        by_pair = {(row.user_id, row.organization_id): row for row in self.zendesk.memberships}
        for (kind, contact, customer), link in self.links.items():
            user, organization = self.links.get(("user", contact, "")), self.organization(customer)
            if kind != "membership" or not link["ours"] or user is None or organization is None:
                continue
            row = by_pair.get((user["zendesk_id"], organization.id))
            if row is not None:
                assert row.id not in self.hands.memberships, f"{contact} in {customer} is not ours"


class Outcome:
    """One record: what QAD wants of it is there, or it is set aside for a reason that is true."""

    def __init__(self, found: Found, kind: str, key: str, row: Row) -> None:
        self.found, self.kind, self.key, self.row = found, kind, key, row
        self.outcome, self.detail = row["last_outcome"], row["last_detail"]
        link = found.links.get((kind, key, ""))
        store = found.zendesk
        self.rows: Any = store.organizations if kind == "organization" else store.users
        self.link_id = None if link is None else link["zendesk_id"]
        self.there = None if self.link_id is None else self.rows.get(self.link_id)
        self.expected = self._expected()

    def __str__(self) -> str:
        return f"{self.kind} {self.key} ({self.outcome} {self.detail}), linked to {self.there or self.link_id}"

    def check(self) -> None:
        if self.outcome == "set_aside":
            assert self.reason_is_true(), f"not true any more: {self}"
        elif self.outcome == "shared_with":
            other = self.found.wanted["user", self.detail]
            assert other["email_folded"] == self.row["email_folded"] != "", f"not shared: {self}"
            assert self.link_id is None, f"shared and linked: {self}"
        else:
            assert self.there is not None, f"not there: {self}"
            self.is_as_wanted()

    def is_as_wanted(self) -> None:
        there, expected = self.there, self.expected
        fields = there.organization_fields if self.kind == "organization" else there.user_fields
        for name, value in expected["fields"].items():
            assert (fields.get(name) or None) == (value or None), f"{name} is not {value!r}: {self}"
        assert there.external_id == self.row["external_id"], f"external id: {self}"
        assert (OUR_TAG in there.tags) == expected["inactive"], f"inactive is {expected['inactive']}: {self}"
        if self.kind == "user":
            assert there.active, f"gone: {self}"
            assert there.role not in STAFF, f"staff: {self}"
            assert there.name == expected["name"], f"name is not {expected['name']!r}: {self}"
            self._email_is_there(expected["email"])
        elif there.name != expected["name"]:
            assert there.name == f"{expected['name']} ({self.key})", f"name is not {expected['name']!r}: {self}"
            assert self._name_is_contested(expected["name"]), f"needless suffix: {self}"

    def _email_is_there(self, email: str) -> None:
        """It is an address of this user, or somebody else has it: people, or a contact who had or wants it, too."""
        holder = self.found.zendesk.user_with_email(email) if email else self.there
        assert holder is not None, f"nobody has {email}: {self}"
        if holder is not self.there and holder.id not in self.found.hands.users:
            links = self.found.links.items()
            holders = [key for (kind, key, _), link in links if kind == "user" and link["zendesk_id"] == holder.id]
            assert holders, f"{email} is at {holder}: {self}"

    def _name_is_contested(self, name: str) -> bool:
        holder = self.found.zendesk.organization_named(name)
        rivals = [one for one in self.found.wanted.values() if one["kind"] == "organization"]
        rivals = [one for one in rivals if one["record_key"] != self.key and one["name_folded"] == fold(name)]
        return bool(rivals) or (holder is not None and holder is not self.there)

    def reason_is_true(self) -> bool:
        word, _, rest = self.detail.partition(" ")
        if word == "case_twin":
            twin = self.found.wanted.get((self.kind, rest.removeprefix("of ")))
            return twin is not None and twin["external_folded"] == self.row["external_folded"] and self.link_id is None
        if word == "no_name":
            return not self.expected["name"]
        if word == "ended_in_qad":
            return bool(self.row["ended"])
        if word == "user_deleted_in_zendesk":
            return self.there is None or not self.there.active
        if word in ("is_agent", "is_admin"):
            return self.there is not None and f"is_{self.there.role}" == word
        if "_held_by" in word or "_of_" in word:
            return self._holder_holds(word, rest)
        if word == "refused_by_zendesk":
            return self._is_refused(rest)
        return False

    def _holder_holds(self, word: str, rest: str) -> bool:
        what, _, how = word.partition("_held_by") if "_held_by" in word else word.partition("_of_")
        if what.isdigit():
            return self.found.links.get((self.kind, rest, ""), {}).get("zendesk_id") == int(what)
        if rest.split()[-1].isdigit() and (how or rest.startswith("external id of")):
            holder = self.rows.get(int(rest.split()[-1]))
        else:
            holder = self.rows.get(self.found.links.get((self.kind, rest, ""), {}).get("zendesk_id") or 0)
        if holder is None or (self.kind == "user" and not holder.active):
            return False
        if how and holder.role != how:
            return False
        value = {"name": "name", "email": "email", "external_id": "external_id"}[what]
        asked = self.expected.get(value) or self.row["external_id"]
        return fold(getattr(holder, value)) == fold(asked)

    def _is_refused(self, rest: str) -> bool:
        """Somebody else holds what is said to be taken."""
        store, name = self.found.zendesk, self.expected["name"]
        if "name DuplicateValue" in rest:
            holders = [store.organization_named(name), store.organization_named(f"{name} ({self.key})")]
        elif "email DuplicateValue" in rest:
            holders = [store.user_with_email(self.expected["email"])]
        elif "external_id DuplicateValue" in rest:
            keyed = store.organization_keyed if self.kind == "organization" else store.user_keyed
            holders = [keyed(self.row["external_id"])]  # type: ignore[operator]
        else:
            return False
        return any(holder is not None and holder is not self.there for holder in holders)

    def _expected(self) -> Row:
        if self.kind == "organization":
            return self._expected_organization()
        contact = self.found.state.qad.contacts.get(int(self.key))
        if contact is None or not contact.customers:
            return self._expected_before("user_fields.")
        email = contact.email.strip() if EMAIL.fullmatch(contact.email.strip()) else ""
        fields = {"qad_contact": self.key, "qad_function": contact.function.strip()}
        return {"name": " ".join(contact.name.split()), "email": email, "fields": fields, "inactive": False}

    def _expected_organization(self) -> Row:
        customer = self.found.state.qad.customers.get(self.key)
        if customer is None:
            return self._expected_before("organization_fields.")
        status, page = "active" if customer.active else "inactive", self.found.page.format(code=self.key)
        fields = {
            "qad_customer": self.key, "qad_status": status, "qad_city": customer.city, "qad_country": customer.country,
            "qad_link": page,
        }  # fmt: skip
        return {"name": " ".join(customer.name.split()), "fields": fields, "inactive": not customer.active}

    def _expected_before(self, prefix: str) -> Row:
        """QAD does not tell of it any more: what it last said stays."""
        body = json.loads(self.row["body"])
        fields = {name.removeprefix(prefix): value for name, value in body.items() if name.startswith(prefix)}
        inactive = OUR_TAG in body["tags"]
        return {"name": body["name"], "email": body.get("email") or "", "fields": fields, "inactive": inactive}
