"""The rules by which people edit: in QAD, and in Zendesk by hand."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from airflow_provider_qadzd.sandbox.state import State
from airflow_provider_qadzd.sandbox.zendesk import organizations
from tests.sync.machine.fate import (
    CITY,
    FEW_OR_MANY,
    MAIL,
    NAME,
    ORGANIZATION_EDITS,
    PICK,
    RACY,
    USER_EDITS,
)  # fmt: skip
from tests.sync.machine.hands import Hands
from tests.sync.machine.seams import Seams
from tests.sync.machine.stage import Stage


class Edits(RuleBasedStateMachine):
    """People at work on both sides. `stage` is where all examples begin."""

    stage: Stage
    seams: Seams
    state: State
    hands: Hands

    # -- QAD -----------------------------------------------------------------------------------------------------------

    def code(self, pick: int) -> str:
        codes = sorted(self.state.qad.customers)
        return codes[pick % len(codes)]

    def contact_id(self, pick: int) -> int:
        ids = sorted(self.state.qad.contacts)
        return ids[pick % len(ids)]

    @rule(pick=PICK, name=NAME)
    def qad_renames_a_customer(self, pick: int, name: str) -> None:
        self.hands.customer(self.code(pick), name=name)

    @rule(pick=PICK, city=CITY, active=st.booleans())
    def qad_changes_a_customer(self, pick: int, city: str, active: bool) -> None:
        self.hands.customer(self.code(pick), city=city, active=active)

    @rule(city=CITY, function=st.sampled_from(["Buyer", "", "Quality"]))
    def qad_changes_everybody(self, city: str, function: str) -> None:
        for code in list(self.state.qad.customers):
            self.hands.customer(code, city=city)
        for contact_id in list(self.state.qad.contacts):
            self.hands.contact(contact_id, function=function)

    @rule(pick=PICK, name=NAME, twin=st.booleans())
    def qad_makes_a_customer(self, pick: int, name: str, twin: bool) -> None:
        code = self.code(pick)
        new = (
            (code.lower() if code != code.lower() else code.upper())
            if twin
            else f"C0000{len(self.state.qad.customers) + 400}"
        )
        self.hands.customer(new, name=name)

    @rule(pick=PICK, email=MAIL, primary=st.booleans())
    def qad_changes_an_email(self, pick: int, email: str, primary: bool) -> None:
        self.hands.contact(self.contact_id(pick), email=email, primary=primary)

    @rule(pick=PICK, name=NAME, function=st.sampled_from(["Buyer", "Quality"]))
    def qad_changes_a_contact(self, pick: int, name: str, function: str) -> None:
        self.hands.contact(self.contact_id(pick), name=name, function=function)

    @rule(pick=PICK, homes=st.lists(PICK, min_size=1, max_size=3))
    def qad_moves_a_contact(self, pick: int, homes: list[int]) -> None:
        codes = list(dict.fromkeys(self.code(home) for home in homes))
        self.hands.contact(self.contact_id(pick), customers=codes)

    @rule(
        homes=st.lists(PICK, min_size=1, max_size=2),
        email=MAIL,
        primary=st.booleans(),
        count=FEW_OR_MANY,
    )
    def qad_makes_contacts(self, homes: list[int], email: str, primary: bool, count: int) -> None:
        codes = list(dict.fromkeys(self.code(home) for home in homes))
        for number in range(count):
            address = email if number == 0 else f"new{number}@pool.example"
            new = max(self.state.qad.contacts, default=50000) + 1
            self.hands.contact(new, name=f"New {new}", email=address, customers=codes, primary=primary)

    @rule(home=PICK, joined=st.lists(PICK, max_size=2))
    def qad_puts_everybody_at_a_customer(self, home: int, joined: list[int]) -> None:
        """And of some, people in Zendesk know already."""
        code, keyed = self.code(home), self.state.zendesk.organization_keyed(self.code(home))
        for contact_id, contact in sorted(self.state.qad.contacts.items()):
            self.hands.contact(contact_id, customers=list(dict.fromkeys([*contact.customers, code])))
        for pick in joined:
            user = self.state.zendesk.user_keyed(str(self.contact_id(pick)))
            if keyed is not None and user is not None:
                self.hands.join(user, keyed)

    @rule(pick=PICK)
    def qad_stops_telling_of_a_contact(self, pick: int) -> None:
        if len(self.state.qad.contacts) > 3:
            with self.state.lock:
                self.state.qad.remove_contact(self.contact_id(pick))

    # -- Zendesk, by hand ----------------------------------------------------------------------------------------------

    def organizations(self) -> list[Any]:
        return list(self.state.zendesk.organizations)

    def users(self, *, staff: bool = False) -> list[Any]:
        admin = self.state.zendesk.admin_id
        return [
            row
            for row in self.state.zendesk.users
            if row.active and row.id != admin and (staff or row.role == "end-user")
        ]

    def may(self, edit: str, kind: str, zendesk_id: int) -> bool:
        """Nothing that races with a job of ours that is under way, and no key taken from what only we know of."""
        if edit not in RACY:
            return True
        linked = self.stage.sql(
            "SELECT count(*) FROM qadzd_link WHERE kind = ? AND zendesk_id = ?", kind, zendesk_id
        )[0][0]  # fmt: skip
        ours = self.hands.organizations if kind == "organization" else self.hands.users
        known = linked or zendesk_id in ours
        return not self.seams._inside and not self.state.jobs._open and bool(known)

    @rule(pick=PICK, edit=st.sampled_from(ORGANIZATION_EDITS), value=NAME)
    def an_organization_is_edited(self, pick: int, edit: str, value: str) -> None:
        rows = self.organizations()
        if rows and self.may(edit, "organization", rows[pick % len(rows)].id):
            self.hands.organization(rows[pick % len(rows)], edit, value)

    @rule(pick=PICK, edit=st.sampled_from(USER_EDITS), value=NAME)
    def a_user_is_edited(self, pick: int, edit: str, value: str) -> None:
        rows = self.users(staff=edit == "end-user")
        if rows and self.may(edit, "user", rows[pick % len(rows)].id):
            self.hands.user(rows[pick % len(rows)], edit, value)

    @rule(pick=PICK, name=NAME)
    def a_contact_becomes_staff(self, pick: int, name: str) -> None:
        """And has another name in QAD."""
        user = self.state.zendesk.user_keyed(str(self.contact_id(pick)))
        if user is not None and user.role == "end-user" and self.may("agent", "user", user.id):
            self.hands.user(user, "agent", "")
            self.hands.contact(self.contact_id(pick), name=name)

    @rule(name=NAME, external_id=st.sampled_from([None, None, "other", "C0000401"]))
    def an_organization_is_made(self, name: str, external_id: str | None) -> None:
        self.hands.edit(lambda state: organizations.create(state, {"name": name, "external_id": external_id}))

    @rule(email=MAIL, external_id=st.sampled_from([None, None, "other", "50011"]))
    def a_user_is_made(self, email: str, external_id: str | None) -> None:
        self.hands.new_user(email, external_id)

    @rule(pick=PICK, email=MAIL)
    def a_user_gets_a_second_email(self, pick: int, email: str) -> None:
        rows = self.users(staff=True)
        self.hands.second_email(rows[pick % len(rows)], email)

    @rule(pick=PICK, home=PICK)
    def a_user_joins_an_organization(self, pick: int, home: int) -> None:
        users, organizations = self.users(), self.organizations()
        if users and organizations:
            self.hands.join(users[pick % len(users)], organizations[home % len(organizations)])

    @rule(pick=PICK, other=PICK, of_users=st.booleans())
    def two_are_merged(self, pick: int, other: int, of_users: bool) -> None:
        rows = self.users() if of_users else self.organizations()
        if len(rows) > 1 and pick % len(rows) != other % len(rows):
            loser, winner = rows[pick % len(rows)], rows[other % len(rows)]
            (self.hands.merge_users if of_users else self.hands.merge_organizations)(loser, winner)
