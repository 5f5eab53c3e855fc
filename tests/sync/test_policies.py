"""The collision table's settings: each other choice than the default, against the sandbox, and what is allowed."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.sync.policies import ALLOWED, Policies, policies_from
from tests.sync.test_absence import delete, nights
from tests.sync.test_collisions import change_customer, in_zendesk
from tests.sync.world import World

SHARED = "purchasing@brightwater-buying.example"


def choose(world: World, **chosen: Any) -> None:
    """The flow's owner decides otherwise than by default."""
    world.rules = replace(world.rules, policies=Policies(**chosen))


def rests(world: World) -> bool:
    """Whether the next run plans nothing and writes nothing."""
    world.count_anew()
    return (world.sync()[0].changes, world.writes()) == (0, 0)


def told(world: World, kind: str, key: str) -> list[tuple[str, str]]:
    """The audit of a record: what became of it, and why."""
    rows = world.rows("audit_entry", kind=kind, record_key=key)
    return [(row["event"], row["detail"].get("detail", "")) for row in rows]


def test_settings_are_checked() -> None:
    """A value that is not allowed is refused with the list of those that are; the first of them is the default."""
    with pytest.raises(FixFirst, match=r"name_unkeyed is .adpot.*Allowed: adopt, set_aside, suffix.*.adopt."):
        policies_from({"name_unkeyed": "adpot"})
    assert policies_from({name: allowed[0] for name, allowed in ALLOWED.items()}) == Policies()
    assert set(ALLOWED) == {field.name for field in fields(Policies)}


def test_an_unkeyed_name_set_aside(small: World) -> None:
    """With name_unkeyed = set_aside, a customer whose name a hand-made organization has waits, naming it."""
    choose(small, name_unkeyed="set_aside")
    holder = next(row for row in small.there()["organizations"] if row["notes"] == "Made by hand.")
    small.sync()
    assert told(small, "organization", "C0000203") == [("set_aside", f"name_of {holder['id']}")]
    assert small.organizations()[holder["name"]] == holder
    assert rests(small)


def test_an_unkeyed_name_suffixed(small: World) -> None:
    """With name_unkeyed = suffix, the hand-made organization stays and the customer's is called by name and code."""
    choose(small, name_unkeyed="suffix")
    holder = next(row for row in small.there()["organizations"] if row["notes"] == "Made by hand.")
    small.sync()
    assert small.organizations()["C0000203"]["name"] == f"{holder['name']} (C0000203)"
    assert small.organizations()[holder["name"]] == holder
    assert told(small, "organization", "C0000203") == [("created", "")]
    assert rests(small)


def test_a_linked_name_set_aside(small: World) -> None:
    """With name_linked = set_aside, the second customer of a name waits, naming the first."""
    choose(small, name_linked="set_aside")
    small.sync()
    assert small.outcomes()["organization", "C0000206"] == ("set_aside", "name_held_by C0000205")
    assert "C0000206" not in small.organizations()
    assert told(small, "organization", "C0000206") == [("set_aside", "name_held_by C0000205")]
    assert rests(small)


def test_a_customer_renamed_to_a_linked_name_set_aside(synced: World) -> None:
    """With name_linked = set_aside, a linked customer renamed to another one's name keeps its organization as it is."""
    choose(synced, name_linked="set_aside")
    before = synced.organizations()["C0000202"]
    change_customer(synced, "C0000202", name=synced.organizations()["C0000201"]["name"])
    synced.sync()
    assert synced.organizations()["C0000202"] == before
    assert synced.outcomes()["organization", "C0000202"] == ("set_aside", "name_held_by C0000201")
    assert rests(synced)


def test_an_unkeyed_email_set_aside(small: World) -> None:
    """With email_unkeyed = set_aside, a contact whose email an end user has waits, and that user is untouched."""
    choose(small, email_unkeyed="set_aside")
    contact = {"id": 60001, "name": "Ada Late", "email": "ada@late.example", "customers": ["C0000201"]}
    small.sandbox.post_control("contacts", contact)
    in_zendesk(small, "POST", "/users", {"user": {"name": "Ada", "email": "ada@late.example", "verified": True}})
    holder = small.users()["ada@late.example"]
    small.sync()
    assert told(small, "user", "60001") == [("set_aside", f"email_of {holder['id']}")]
    assert small.users()["ada@late.example"] == holder
    assert not [row for row in small.outcomes().values() if row[0] == "adopted" and "email" in row[1]]
    assert rests(small)


def test_a_shared_email_without_email(small: World) -> None:
    """With email_shared = without_email, each contact of a mailbox has a user; the first has the email."""
    choose(small, email_shared="without_email")
    small.sync()
    users = small.users()
    assert (users["50003"]["email"], users["50004"]["email"]) == (SHARED, None)
    assert small.homes(users["50003"]["id"]) == {"C0000203"}
    assert small.homes(users["50004"]["id"]) == {"C0000204"}
    assert told(small, "user", "50004") == [("created", "")]
    assert rests(small)


def test_a_missing_email_set_aside(small: World) -> None:
    """With email_missing = set_aside, a contact without an email, or with one that is none, is not made."""
    choose(small, email_missing="set_aside")
    small.sync()
    for key in ("50005", "50009"):
        assert told(small, "user", key) == [("set_aside", "no_email")]
        assert key not in small.users()
    assert rests(small)


def test_a_changed_email_made_primary(synced: World) -> None:
    """With email_changed = make_primary, the new email becomes the primary one, the old one stays, no mail goes out."""
    choose(synced, email_changed="make_primary")
    user = synced.users()["50001"]
    for email in ("new.address@northwind.example", user["email"], "new.address@northwind.example"):
        synced.sandbox.post_control("contacts", {"id": 50001, "email": email})
        synced.sync()
        assert synced.users()["50001"]["email"] == email
        assert rests(synced)
    emails = {row["value"] for row in synced.there()["identities"] if row["user_id"] == user["id"]}
    assert emails == {user["email"], "new.address@northwind.example"}
    assert synced.sandbox.get_control("stats")["verification_mails"] == 0
    (first, *_) = synced.rows("audit_entry", kind="identity", record_key="50001")
    assert (first["event"], first["detail"]["detail"]) == ("updated", "email made primary")


def test_an_inactive_customer_ignored(synced: World) -> None:
    """With customer_inactive = ignore, neither field nor tag follows QAD."""
    choose(synced, customer_inactive="ignore")
    before = synced.organizations()["C0000201"]
    change_customer(synced, "C0000201", active=False)
    synced.sync()
    assert synced.organizations()["C0000201"] == before
    assert rests(synced)


def test_an_ended_contact_ignored(synced: World) -> None:
    """With contact_ended = ignore, the user of a contact that QAD has no more stays as it is, untagged."""
    choose(synced, contact_ended="ignore")
    before = synced.users()["50006"]
    delete(synced, "contacts", id=50006)
    nights(synced, 4)
    assert synced.rows("qad_record", kind="contact", record_key="50006")[0]["absent_at"]
    assert synced.users()["50006"] == before


def test_a_deleted_organization_set_aside(synced: World) -> None:
    """With organization_deleted = set_aside, what somebody deleted in Zendesk stays deleted, and its contacts calm."""
    choose(synced, organization_deleted="set_aside")
    in_zendesk(synced, "DELETE", f"/organizations/{synced.organizations()['C0000201']['id']}")
    synced.clock.sleep(86_400)
    synced.sync()
    assert "C0000201" not in synced.organizations()
    assert told(synced, "organization", "C0000201")[-1] == ("set_aside", "organization_deleted_in_zendesk")
    assert rests(synced)


def test_a_deleted_user_recreated(synced: World) -> None:
    """With user_deleted = recreate, a user deleted by hand is made again with its email and memberships, audited."""
    choose(synced, user_deleted="recreate")
    user = synced.users()["50006"]
    homes = synced.homes(user["id"])
    in_zendesk(synced, "DELETE", f"/users/{user['id']}")
    _, report = synced.sync()
    assert report["outcomes"]["user"] == {"recreated": 1}
    again = next(row for row in synced.there()["users"] if row["external_id"] == "50006" and row["active"])
    assert (again["email"], synced.homes(again["id"])) == (user["email"], homes)
    assert again["id"] != user["id"]
    assert told(synced, "user", "50006")[-1] == ("recreated", "")
    assert synced.sandbox.get_control("stats")["verification_mails"] == 0
    synced.sync()
    assert rests(synced)


def test_a_user_erased_for_good_is_never_recreated(synced: World) -> None:
    """A user whom Zendesk has deleted for good is not made again, whatever the setting."""
    choose(synced, user_deleted="recreate")
    user = synced.users()["50006"]
    in_zendesk(synced, "DELETE", f"/users/{user['id']}")
    in_zendesk(synced, "DELETE", f"/deleted_users/{user['id']}")
    synced.sync()
    synced.sync()
    assert synced.writes() == 0
    assert synced.outcomes()["user", "50006"] == ("set_aside", "user_erased_in_zendesk")
    assert rests(synced)


def test_a_suspended_user_is_updated_and_stays_suspended(synced: World) -> None:
    """A suspended user follows QAD like any other, and stays suspended."""
    user = synced.users()["50006"]
    in_zendesk(synced, "PUT", f"/users/{user['id']}", {"user": {"suspended": True}})
    synced.sandbox.post_control("contacts", {"id": 50006, "function": "Owner"})
    synced.sync()
    after = synced.users()["50006"]
    assert (after["suspended"], after["user_fields"]["qad_function"]) == (True, "Owner")
    assert told(synced, "user", "50006")[-1] == ("updated", "")
    assert rests(synced)


def test_nobody_gets_mail(small: World) -> None:
    """Neither new users, in bulk and singly, nor new emails make Zendesk write to anybody."""
    small.settings(bulk_import=False)
    small.sync()
    small.sandbox.post_control("contacts", {"id": 50006, "email": "another@somewhere.example"})
    for number in range(60001, 60007):
        contact = {"id": number, "name": f"New {number}", "email": f"n{number}@x.example", "customers": ["C0000201"]}
        small.sandbox.post_control("contacts", contact)
    small.settings(bulk_import=True)
    small.sync()
    assert small.users()["60006"]["email"] == "n60006@x.example"
    assert small.sandbox.get_control("stats")["verification_mails"] == 0
