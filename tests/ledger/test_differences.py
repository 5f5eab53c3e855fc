"""Where wanted, written and current values differ, and who else holds what a record wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_qadzd.ledger import Ledger, accounts, differences
from airflow_provider_qadzd.ledger.schema import wanted
from tests.ledger.rows import (
    a_change,
    a_flow,
    a_record,
    a_wanted,
    an_end,
    as_kind,
    found,
    in_step,
    observe,
    one,
    plan_changes,
    settle,
    want,
)
from tests.ledger.test_accounts import a_person, read_contacts


@pytest.mark.parametrize("kind", ["organization", "user"])
def test_a_record_in_step_is_no_candidate(ledger: Ledger, kind: str) -> None:
    """What is linked, in the mirror as it was written, and wanted as it was written needs no decision."""
    flow = a_flow(ledger)
    in_step(ledger, flow, 7, a_wanted("K1", as_kind(kind)))
    assert found(ledger, flow, as_kind(kind)) == []
    assert one(ledger, flow, "K1", as_kind(kind)).link_id == 7


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"wanted": {"body": {"phone": "1"}}}, id="it is wanted otherwise"),
        pytest.param({"mirror": {"digest": "by hand"}}, id="it was changed in Zendesk"),
        pytest.param({"mirror": {"active": False}}, id="it was deleted in Zendesk"),
        pytest.param({"link": 8}, id="its record is not in the mirror"),
    ],
)
@pytest.mark.parametrize("kind", ["organization", "user"])
def test_a_record_that_differs_is_a_candidate(ledger: Ledger, kind: str, changed: dict[str, Any]) -> None:
    """Each way in which wanted, written and current values can differ asks for a decision."""
    flow = a_flow(ledger)
    row = a_wanted("K1", as_kind(kind))
    in_step(ledger, flow, 7, row)
    in_step(ledger, flow, 9, a_wanted("K2", as_kind(kind)))
    if "wanted" in changed:
        want(ledger, flow, a_wanted("K1", as_kind(kind), **changed["wanted"]))
    if "mirror" in changed:
        observe(ledger, a_record(7, flow.account_id, as_kind(kind), observed_epoch=200.0, **changed["mirror"]))
    if "link" in changed:
        settle(ledger, flow, an_end(as_kind(kind), "K1", changed["link"], fingerprint=row.fingerprint))
    assert [candidate.key for candidate in found(ledger, flow, as_kind(kind))] == ["K1"]


@pytest.mark.parametrize("kind", ["organization", "user"])
def test_a_record_without_a_link_is_a_candidate(ledger: Ledger, kind: str) -> None:
    """What was never linked asks for a decision, with everything that it depends on."""
    flow = a_flow(ledger)
    row = a_wanted("K1", as_kind(kind), aside="no_name")
    want(ledger, flow, row)
    (candidate,) = found(ledger, flow, as_kind(kind))
    assert (candidate.key, candidate.external_id, candidate.fingerprint) == ("K1", "K1", row.fingerprint)
    assert (candidate.body, candidate.aside, candidate.link_id) == (row.body, "no_name", None)
    assert (candidate.name_first, candidate.email_first, candidate.twin) == ("K1", "K1", None)


def test_candidates_come_in_key_order_page_after_page(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come by code point, each once, over however many pages."""
    monkeypatch.setattr(differences, "PAGE", 2)
    monkeypatch.setattr(differences, "_KEYS", 3)
    flow = a_flow(ledger)
    keys = ["a", "B", "ä", "10", "9", "Z", "_", "z"]
    want(ledger, flow, *(a_wanted(key, name="One and the same") for key in keys))
    observe(ledger, *(a_record(n, flow.account_id, name_folded="one and the same") for n in (3, 1, 2)))
    assert [candidate.key for candidate in found(ledger, flow)] == sorted(keys)
    assert [candidate.key for candidate in found(ledger, flow, keys=["z", "a"])] == ["a", "z"]


def test_what_is_settled_between_two_pages_disturbs_none(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes may be written while candidates are read."""
    monkeypatch.setattr(differences, "_KEYS", 1)
    flow = a_flow(ledger)
    rows = [a_wanted(f"K{n}") for n in range(4)]
    want(ledger, flow, *rows)
    seen = []
    for n, candidate in enumerate(accounts.candidates(ledger, flow, "organization")):
        seen.append(candidate.key)
        in_step(ledger, flow, 100 + n, rows[n])
    assert seen == ["K0", "K1", "K2", "K3"]
    assert found(ledger, flow) == []


def test_holders_of_an_organizations_external_id_and_name(ledger: Ledger) -> None:
    """Holders are found whatever their case, with their own keys; of two of one name the lower id counts."""
    flow = a_flow(ledger)
    want(ledger, flow, a_wanted("c1", name="Acme"))
    account = flow.account_id
    observe(
        ledger,
        a_record(5, account, external_folded="c1"),
        a_record(9, account, name_folded="acme"),
        a_record(8, account, name_folded="acme", fields={"name": "ACME"}),
        a_record(4, account, name_folded="acme", active=False),
        a_record(3, account, "user", name_folded="acme", external_folded="c1"),
        a_record(2, account + 1, name_folded="acme", external_folded="c1"),
    )
    candidate = one(ledger, flow, "c1")
    assert candidate.by_external is not None
    assert candidate.by_external.zendesk_id == 5
    assert candidate.by_name is not None
    assert (candidate.by_name.zendesk_id, candidate.by_name.linked_to) == (8, None)
    assert candidate.by_name.fields == {"name": "ACME"}
    assert candidate.by_email is None


def test_holders_of_a_users_email(ledger: Ledger) -> None:
    """A user's email is looked for, its name is not; without an email nobody holds it."""
    flow = a_flow(ledger)
    want(ledger, flow, a_wanted("P1", "user", name="Ada", email="Ada@Example.com"), a_wanted("P2", "user", name="Bob"))
    observe(
        ledger,
        a_record(5, flow.account_id, "user", email_folded="ada@example.com", user_role="agent"),
        a_record(6, flow.account_id, "user", name_folded="bob"),
    )
    ada, bob = found(ledger, flow, "user")
    assert ada.by_email is not None
    assert (ada.by_email.zendesk_id, ada.by_email.role, ada.by_email.email_folded) == (5, "agent", "ada@example.com")
    assert (ada.by_name, bob.by_email, bob.by_name) == (None, None, None)


def test_a_holder_names_the_key_it_is_linked_to(ledger: Ledger) -> None:
    """What another key of the flow holds is told with that key, and another flow's with that flow's number."""
    here = a_flow(ledger)
    there = a_flow(ledger, "eu", qad="https://eu.example.com", part="eu-")
    in_step(ledger, here, 7, a_wanted("C1", name="Acme"))
    in_step(ledger, there, 8, a_wanted("C2", name="Beta"))
    want(ledger, here, a_wanted("C2", name="Acme"), a_wanted("C3", name="Beta"))
    holders = [one(ledger, here, key).by_name for key in ("C1", "C2", "C3")]
    assert [holder and holder.linked_to for holder in holders] == ["C1", "C1", f"flow {there.flow_id} C2"]


def test_the_first_of_one_name_is_the_lowest_key_that_can_be_synced(ledger: Ledger) -> None:
    """Names are compared folded; what is set aside by its own data claims none."""
    flow = a_flow(ledger)
    want(
        ledger,
        flow,
        a_wanted("C1", name="ACME", aside="no_name"),
        a_wanted("C2", name="acme"),
        a_wanted("C3", name="Acme "),
    )
    assert [candidate.name_first for candidate in found(ledger, flow)] == ["C2", "C2", "C2"]


def test_a_shared_mailbox_is_the_primary_contacts_then_the_lowest_keys(ledger: Ledger) -> None:
    """Of new contacts with one email the primary one comes first; contacts without an email share nothing."""
    flow = a_flow(ledger)
    info = {"email": "info@example.com"}
    want(
        ledger, flow,
        a_wanted("P1", "user", rank=1, **info), a_wanted("P2", "user", rank=0, **info),
        a_wanted("P3", "user", rank=0, **info), a_wanted("P4", "user"), a_wanted("P5", "user"),
    )  # fmt: skip
    assert [candidate.email_first for candidate in found(ledger, flow, "user")] == ["P2", "P2", "P2", "P4", "P5"]


def test_a_contact_that_has_the_mailboxs_user_keeps_it(ledger: Ledger) -> None:
    """A newcomer with a lower key or a primary flag shares the user that is there already."""
    flow = a_flow(ledger)
    info = {"email": "info@example.com"}
    in_step(ledger, flow, 7, a_wanted("P5", "user", rank=1, **info))
    want(ledger, flow, a_wanted("P1", "user", rank=0, **info))
    assert one(ledger, flow, "P1", "user").email_first == "P5"
    assert one(ledger, flow, "P5", "user").email_first == "P5"


def test_a_case_twin_is_named(ledger: Ledger) -> None:
    """Keys that Zendesk cannot tell apart name each other; another kind's key is no twin."""
    flow = a_flow(ledger)
    want(ledger, flow, a_wanted("abc"), a_wanted("ABC"), a_wanted("Abd"), a_wanted("aBC", "user"))
    assert {candidate.key: candidate.twin for candidate in found(ledger, flow)} == {
        "ABC": "abc", "abc": "ABC", "Abd": None
    }  # fmt: skip


def test_counts_of_what_is_wanted_and_linked(ledger: Ledger) -> None:
    """Organizations and users count, memberships and other flows do not."""
    flow = a_flow(ledger)
    other = a_flow(ledger, "other", zendesk="https://other.zendesk.com")
    in_step(ledger, flow, 7, a_wanted("C1"))
    in_step(ledger, other, 7, a_wanted("C1"))
    want(ledger, flow, a_wanted("C2"), a_wanted("P1", "user"))
    settle(ledger, flow, an_end("membership", "P1", None, other="C1"))
    assert accounts.wanted_count(ledger, flow) == {"organization": 2, "user": 1}
    assert accounts.linked_count(ledger, flow) == 1


@pytest.mark.parametrize("kind", ["organization", "user"])
def test_a_candidate_costs_a_few_looks_along_indexes(tmp_path: Path, kind: str) -> None:
    """Every part of the question finds its rows by a full key: none walks a table, or all records of an account."""
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db").opened()
    asked = differences._candidate_query(a_flow(ledger), as_kind(kind)).where(wanted.c.record_key.in_(["K1", "K2"]))
    sql = str(asked.compile(ledger.engine, compile_kwargs={"literal_binds": True}))
    with ledger.reading() as tx:
        steps = [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}") if "SUBQUERY" not in row[3]]
    assert len(steps) >= 10
    assert [step for step in steps if not step.startswith("SEARCH") or step.count("=?") < 3] == []


# -- memberships and identities ----------------------------------------------------------------------------------------


def test_missing_memberships_are_those_that_the_last_complete_read_saw(ledger: Ledger) -> None:
    """A pair without a link is missing once both have their record or a change on its way to it."""
    flow = a_flow(ledger)
    read_contacts(ledger, flow.source_id, [("P1", "C1", a_person()), ("P1", "C2", a_person())])
    read_contacts(ledger, flow.source_id, [("P1", "C1", a_person()), ("P1", "C3", a_person())])
    late = accounts.begin_read(ledger, flow.source_id, "contact", "full", "run")
    accounts.save_page(ledger, flow.source_id, "contact", late, [("P1", a_person())], [("P1", "C4")])
    in_step(ledger, flow, 7, a_wanted("P1", "user"))
    for n, key in enumerate(["C1", "C2", "C4"]):
        in_step(ledger, flow, 10 + n, a_wanted(key))
    assert list(accounts.missing_memberships(ledger, flow)) == [("P1", "C1"), ("P1", "C4")]
    plan_changes(ledger, flow, a_change("C3"))
    assert list(accounts.missing_memberships(ledger, flow)) == [("P1", "C1"), ("P1", "C3"), ("P1", "C4")]
    settle(ledger, flow, an_end("membership", "P1", None, other="C1"))
    assert list(accounts.missing_memberships(ledger, flow)) == [("P1", "C3"), ("P1", "C4")]


def test_no_membership_is_missing_before_a_read_was_complete(ledger: Ledger) -> None:
    """An interrupted first read concludes nothing."""
    flow = a_flow(ledger)
    read_id = accounts.begin_read(ledger, flow.source_id, "contact", "full", "run")
    accounts.save_page(ledger, flow.source_id, "contact", read_id, [("P1", a_person())], [("P1", "C1")])
    in_step(ledger, flow, 7, a_wanted("P1", "user"))
    in_step(ledger, flow, 8, a_wanted("C1"))
    assert list(accounts.missing_memberships(ledger, flow)) == []


def test_contacts_that_share_a_mailbox_are_members_as_one(ledger: Ledger) -> None:
    """The user of the shared mailbox becomes a member of each contact's customer, and of none twice."""
    flow = a_flow(ledger)
    info = {"email": "info@example.com"}
    of = [("P1", "C1"), ("P2", "C2"), ("P3", "C2"), ("P4", "C2")]
    read_contacts(ledger, flow.source_id, [(key, customer, a_person()) for key, customer in of])
    in_step(ledger, flow, 7, a_wanted("P2", "user", **info))
    want(
        ledger, flow,
        a_wanted("P1", "user", **info), a_wanted("P3", "user", **info), a_wanted("P4", "user", aside="no_name", **info),
    )  # fmt: skip
    in_step(ledger, flow, 10, a_wanted("C1"))
    in_step(ledger, flow, 11, a_wanted("C2"))
    assert list(accounts.missing_memberships(ledger, flow)) == [("P2", "C1"), ("P2", "C2")]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param({"active": False}, id="a user who was deleted"),
        pytest.param({"user_role": "agent"}, id="a user who became an agent"),
        pytest.param({"user_role": "admin"}, id="a user who became an admin"),
    ],
)
def test_who_is_gone_or_staff_gets_no_membership_and_no_email(ledger: Ledger, record: dict[str, Any]) -> None:
    """We touch only end users that are there."""
    flow = a_flow(ledger)
    read_contacts(ledger, flow.source_id, [("P1", "C1", a_person())])
    in_step(ledger, flow, 7, a_wanted("P1", "user", email="new@example.com"), email_folded="old@example.com", **record)
    in_step(ledger, flow, 8, a_wanted("C1"))
    assert list(accounts.missing_memberships(ledger, flow)) == []
    assert accounts.missing_identities(ledger, flow) == []


def test_a_changed_email_is_a_missing_identity_until_it_was_added(ledger: Ledger) -> None:
    """The address is told as QAD spells it; case alone is no difference, and an added one is not missing."""
    flow = a_flow(ledger)
    in_step(ledger, flow, 7, a_wanted("P1", "user", email="New@Example.com"), email_folded="old@example.com")
    in_step(ledger, flow, 8, a_wanted("P2", "user", email="Same@Example.com"))
    in_step(ledger, flow, 9, a_wanted("P3", "user"), email_folded="kept@example.com")
    assert accounts.missing_identities(ledger, flow) == [("P1", "New@Example.com")]
    settle(ledger, flow, an_end("identity", "P1", 70, other="new@example.com"))
    assert accounts.missing_identities(ledger, flow) == []
