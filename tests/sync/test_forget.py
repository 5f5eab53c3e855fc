"""Forgetting, proven by a search of the ledger's whole file for what must not be in it any more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import update

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger import Ledger, forgetting
from airflow_provider_qadzd.ledger.forgetting import Subject
from airflow_provider_qadzd.ledger.schema import change_item, export_cursor, export_run
from airflow_provider_qadzd.ledger.stories import stories
from airflow_provider_qadzd.sync import forget as telling
from airflow_provider_qadzd.sync.export import Run, export_live
from airflow_provider_qadzd.sync.receive import match_again
from tests.sync.test_collisions import in_zendesk
from tests.sync.test_deliveries import deliver, drained, event
from tests.sync.test_drift import look
from tests.sync.world import World

PERSON, NAME, EMAIL = "50001", "Renée Keller", "renee.keller@northwind-pumps-valves.example"
WORDS = "Words of a forgotten requester"


def in_the_files(world: World, *words: str) -> list[str]:
    """Which of these words the ledger's files still hold, in any of the spellings that JSON and folding give them."""
    folder = Path(str(world.ledger.engine.url.database)).parent
    kept = b"".join(path.read_bytes() for path in folder.glob("ledger.db*")).decode(errors="replace").lower()
    return [word for word in words if word.lower() in kept or json.dumps(word)[1:-1].lower() in kept]


def everything_in(world: World, run: str = "run") -> None:
    """Tickets with their history, from wherever the export stands."""
    world.start_exports()
    export_live(world.ledger, world.account.account_id, world.zendesk, Run("dag", run))
    match_again(world.ledger, world.account.account_id)


def the(world: World, key: str, of: str | None = None) -> Subject:
    """Whoever has that key."""
    return forgetting.one_subject(forgetting.subjects(world.ledger, key), key, of)


def forget(world: World, key: str) -> forgetting.Forgotten:
    """Forget whoever has that key."""
    return forgetting.forget(world.ledger, the(world, key), "a person")


def a_ticket_of(world: World, user: int) -> int:
    """A ticket of that requester whose subject has words that can be found."""
    made = world.sandbox.post_control("tickets", {"requester_id": user, "subject": WORDS, "status": "open"})
    return int(made["ticket"]["id"])


def test_a_contact_is_forgotten_also_after_another_full_sync(synced: World) -> None:
    """Neither name nor address nor the words of their tickets are in the file, though QAD and Zendesk have them still.

    Everything that could bring them back is run again: reads, all exports from the start, deliveries.
    """
    world = synced
    user = world.users()[PERSON]["id"]
    ticket_id = a_ticket_of(world, user)
    world.clock.sleep(200)
    world.sync()
    everything_in(world)
    deliver(world, event(ticket_id, event_id="waiting", who=NAME))
    deliver(world, {"id": "unreadable", "who": NAME, "type": "zen:event-type:user.created"})
    assert in_the_files(world, NAME, EMAIL, WORDS) == [NAME, EMAIL, WORDS]

    subject = the(world, PERSON)
    assert EMAIL in telling.before(subject)
    assert subject.ids_in(world.account.account_id) == [user]
    done = forgetting.forget(world.ledger, subject, "a person")
    assert world.ledger.compact()
    assert in_the_files(world, NAME, EMAIL, WORDS) == []
    assert f"user {user}" in telling.after(subject, done, compacted=True, is_sqlite=True)

    world.count_anew()
    with world.ledger.writing() as tx:
        for table in (export_cursor, export_run):
            tx.execute(table.delete())
    world.sandbox.post_control("contacts", {"id": int(PERSON), "phone": "+44 1"})
    world.sandbox.post_control("tickets", {"id": ticket_id, "subject": f"{WORDS} again", "status": "pending"})
    _, report = world.sync()
    everything_in(world, "again")
    drained(world)
    assert report["zendesk_writes"] == 0
    assert world.ledger.compact()
    assert in_the_files(world, NAME, EMAIL, WORDS) == []
    assert world.users()[PERSON]["email"] == EMAIL  # Zendesk's own record is not ours to delete
    assert world.rows("ticket", ticket_id=ticket_id)[0]["status"] == "pending"


def test_a_forgotten_requesters_ticket_moves_only_when_it_does(synced: World) -> None:
    """What is left out of a ticket is not taken for a change each time the ticket is exported."""
    ticket_id = a_ticket_of(synced, synced.users()[PERSON]["id"])
    synced.clock.sleep(200)
    forget(synced, PERSON)
    everything_in(synced)
    events = len(synced.rows("ticket_event", ticket_id=ticket_id))
    with synced.ledger.writing() as tx:
        for table in (export_cursor, export_run):
            tx.execute(table.delete())
    everything_in(synced, "again")
    assert len(synced.rows("ticket_event", ticket_id=ticket_id)) == events
    assert synced.rows("ticket", ticket_id=ticket_id)[0]["subject"] == ""


def test_what_is_left_is_a_pseudonym(synced: World) -> None:
    """Changes and audit are still there to be counted, without a value; the key leads nowhere, and says since when."""
    before = len(synced.rows("audit_entry"))
    done = forget(synced, PERSON)
    assert len(synced.rows("audit_entry")) == before + 1
    left = synced.rows("audit_entry", record_key=done.pseudonym)
    assert {row["event"] for row in left} == {"adopted", "membership_added", "forgotten"}
    assert all(row["detail"] == {} for row in left)
    changes = synced.rows("change_item", record_key=done.pseudonym)
    assert [(row["difference"], row["other_key"]) for row in changes] == [({}, "")] * 3
    assert stories(synced.ledger, PERSON) == []
    assert [of for of, _ in forgetting.forgotten_since(synced.ledger, PERSON)] == ["contact"]
    assert forgetting.subjects(synced.ledger, PERSON) == []
    assert {"wanted", "qad_record", "link", "mirror", "change_item"} <= set(done.rows)


def test_a_customer_is_forgotten_and_its_contacts_are_not(synced: World) -> None:
    """The company's name is gone from the file, and its tickets have no customer; its contacts stay, and say so."""
    synced.sandbox.post_control("customers", {"code": "C0000201", "name": "Zyxwvut Unheard Of Ltd"})
    organization = synced.organizations()["C0000201"]["id"]
    there = {"requester_id": synced.users()["50013"]["id"], "organization_id": organization, "subject": WORDS}
    synced.sandbox.post_control("tickets", there)
    synced.clock.sleep(200)
    synced.sync()
    everything_in(synced)
    assert synced.rows("ticket", customer_key="C0000201")
    subject = the(synced, "C0000201")
    assert "Zyxwvut Unheard Of Ltd" in subject.names
    assert subject.contacts == ("50001", "50013")
    assert "50001, 50013" in telling.before(subject)
    forget(synced, "C0000201")
    synced.sync()
    everything_in(synced, "again")
    assert synced.ledger.compact()
    assert in_the_files(synced, "Zyxwvut Unheard Of Ltd", WORDS) == []
    for table in ("qad_record", "wanted", "link", "change_item"):
        assert synced.rows(table, record_key="C0000201") == []
    assert not any(row["other_key"] == "C0000201" for row in synced.rows("link"))
    assert synced.rows("ticket", customer_key="C0000201") == synced.rows("ticket_event", customer_key="C0000201") == []
    assert synced.rows("wanted", record_key="50013")


def test_a_shared_address_stays_with_the_others(synced: World) -> None:
    """Forgetting one of two who share a mailbox forgets the one; the other waits until Zendesk's user is gone."""
    subject = the(synced, "50003")
    assert subject.shared_with == ("50004",)
    assert "50004" in telling.before(subject)
    forget(synced, "50003")
    synced.sync()
    (other,) = synced.rows("wanted", record_key="50004")
    assert other["email_folded"] == subject.emails[0]
    assert other["last_outcome"] in ("set_aside", "failed_retryable")
    assert "refused_by_zendesk" in other["last_detail"]
    assert synced.rows("wanted", record_key="50003") == []


def test_what_looks_found_is_forgotten_too(synced: World) -> None:
    """A field edited by hand, a merge into the forgotten, a default of theirs: nothing of it is left or comes back."""
    word, users, customer = "Qwertz Unheard Of", synced.users(), "C0000204"
    in_zendesk(synced, "PUT", f"/users/{users[PERSON]['id']}", {"user": {"name": word}})
    in_zendesk(synced, "PUT", f"/users/{users['50006']['id']}/merge", {"user": {"id": users[PERSON]["id"]}})
    home = {"user_id": users["50005"]["id"], "organization_id": synced.organizations()[customer]["id"], "default": True}
    in_zendesk(synced, "POST", "/organization_memberships", {"organization_membership": home})
    assert look(synced).standing == {"edited": 1, "merged": 1, "moved": 1}
    assert in_the_files(synced, word) == [word]
    for key, concerned in ((PERSON, "50006"), (customer, "50005")):
        ids = the(synced, key).ids_in(synced.account.account_id)
        forget(synced, key)
        look(synced)
        assert synced.rows("drift", record_key=key) == []
        (row,) = synced.rows("drift", record_key=concerned)
        assert row["other_id"] is None
        told = [row for row in synced.rows("audit_entry", record_key=concerned) if row["event"].startswith("drift")]
        assert told
        assert not any(row["detail"].get("other_id") in ids for row in told)
    assert synced.ledger.compact()
    assert in_the_files(synced, word) == []


def in_state(world: World, change_id: int, state: str) -> None:
    """A change as if it had come that far."""
    with world.ledger.writing() as tx:
        tx.execute(update(change_item).where(change_item.c.change_id == change_id).values(change_state=state))


def test_not_while_a_write_is_under_way(small: World) -> None:
    """What is on its way to Zendesk would come back; planned and not sent, it is taken back."""
    small.collect()
    small.mirror()
    plan = small.plan()
    (item,) = small.rows("change_item", kind="user", record_key=PERSON)
    in_state(small, item["change_id"], "sent")
    with pytest.raises(TryLater, match="on its way"):
        forget(small, PERSON)
    assert small.rows("tombstone") == []
    in_state(small, item["change_id"], "planned")
    forget(small, PERSON)
    small.apply(plan)
    assert PERSON not in small.users()


def test_without_the_vault_nothing_of_people_is_stored(synced: World) -> None:
    """Once somebody was forgotten, a process that cannot tell who it was refuses to store anybody."""
    forget(synced, PERSON)
    blind = Ledger(str(synced.ledger.engine.url), synced.clock)
    synced.ledger.engine.dispose()
    synced.ledger = blind
    with pytest.raises(FixFirst, match="no vault key"):
        synced.collect()


def test_a_key_of_both_kinds_must_be_told_apart(synced: World) -> None:
    """A key that is a customer's and a contact's is refused until it is said which; an unknown one is told."""
    synced.sandbox.post_control("customers", {"code": PERSON, "name": "Fifty Thousand And One"})
    synced.collect()
    with pytest.raises(FixFirst, match="--kind"):
        the(synced, PERSON)
    assert the(synced, PERSON, "customer").names == ("Fifty Thousand And One",)
    with pytest.raises(FixFirst, match="knows no"):
        the(synced, "nobody")
