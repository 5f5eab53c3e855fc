"""The journey in by webhook: what is drained, what is set aside, and which version of a ticket stands."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.sync.receive import Drained, accept, drain, match_again
from airflow_provider_qadzd.zendesk.webhook import SIGNATURE, TIMESTAMP, sign, verify
from tests.sync.world import World

SECRET = "the-signing-secret"
CLOSED = {"status": "closed"}


def deliver(world: World, payload: dict[str, Any]) -> bool:
    """Sign a payload as Zendesk would, verify it as the receiver does, and commit it."""
    body = json.dumps(payload).encode()
    stamp = world.ledger.now()
    headers = {SIGNATURE: sign(SECRET, stamp, body), TIMESTAMP: stamp}
    delivery = verify(headers, body, [SECRET], world.clock.time())
    return accept(world.ledger, world.account.account_id, delivery, body)


def event(ticket_id: int, name: str = "status_changed", event_id: str = "", **event: Any) -> dict[str, Any]:
    """An event-subscribed payload about a ticket."""
    return {
        "id": event_id or f"{ticket_id}-{name}-{random.random()}",
        "type": f"zen:event-type:ticket.{name}",
        "subject": f"zen:ticket:{ticket_id}",
        "time": "2026-01-31T08:15:30Z",
        "detail": {"id": str(ticket_id)},
        "event": event,
    }


def drained(world: World) -> Drained:
    """Drain what is pending."""
    return drain(world.ledger, world.account.account_id, world.zendesk)


def change(world: World, ticket_id: int, **values: Any) -> None:
    """Change a ticket in Zendesk, a while later."""
    world.clock.sleep(5)
    world.sandbox.post_control("tickets", {"id": ticket_id, **values})


def ticket(world: World, ticket_id: int) -> dict[str, Any]:
    """The ledger's row of a ticket."""
    (row,) = world.rows("ticket", ticket_id=ticket_id)
    return row


def live(world: World, *not_in: str) -> list[int]:
    """Tickets that are there."""
    return [row["id"] for row in world.there()["tickets"] if row["status"] not in ("deleted", "closed", *not_in)]


def test_created_updated_and_solved_are_drained_once(synced: World) -> None:
    """Each delivery is drained once and makes one event; the ticket's row is what Zendesk has now."""
    made = synced.sandbox.post_control("tickets", {"subject": "Pump", "requester_email": "ada@new.example"})["ticket"]
    other = live(synced, "solved")[0]
    change(synced, other, status="solved")
    assert deliver(synced, event(made["id"], "created"))
    assert deliver(synced, event(made["id"], "priority_changed", current="HIGH"))
    assert deliver(synced, event(other, current="SOLVED", previous="OPEN"))
    assert drained(synced) == Drained(drained=3, moved=2)
    assert drained(synced) == Drained()
    assert [(row["ticket_id"], row["kind"], row["found_by"]) for row in synced.rows("ticket_event")] == [
        (made["id"], "created", "webhook"),
        (made["id"], "updated", "webhook"),
        (other, "solved", "webhook"),
    ]
    assert ticket(synced, other)["status"] == "solved"
    assert ticket(synced, made["id"])["subject"] == "Pump"
    assert {row["inbox_state"] for row in synced.rows("inbox")} == {"drained"}
    assert {row["body"] for row in synced.rows("inbox")} == {None}


def test_repeats_are_dropped(synced: World) -> None:
    """A repeated signed id makes no second event, before the drain or after it."""
    one = event(live(synced)[0], event_id="e-1")
    assert deliver(synced, one)
    synced.clock.sleep(2)
    assert not deliver(synced, one)
    drained(synced)
    synced.clock.sleep(2)
    assert not deliver(synced, one)
    assert drained(synced) == Drained()
    assert len(synced.rows("ticket_event")) == 1


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_deliveries_end_in_the_newest_state(synced: World, seed: int) -> None:
    """Deliveries in any order, drained in any portions, end in what Zendesk has."""
    draw, ids = random.Random(seed), live(synced)[:4]
    payloads = []
    for round_ in range(3):
        for ticket_id in ids:
            change(synced, ticket_id, subject=f"Round {round_}", tags=[f"r{round_}"])
            payloads.append(event(ticket_id, "subject_changed"))
            if draw.random() < 0.3:
                drained(synced)
    draw.shuffle(payloads)
    for payload in payloads:
        deliver(synced, payload)
        if draw.random() < 0.3:
            drained(synced)
    drained(synced)
    assert {(row["subject"], tuple(row["tags"])) for row in synced.rows("ticket")} == {("Round 2", ("r2",))}
    assert len(synced.rows("ticket_event")) == len(payloads)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"id": "p", "type": "zen:event-type:user.created", "detail": {"id": "7"}}, id="about a user"),
        pytest.param({"id": "p", "type": "zen:event-type:ticket.created", "detail": {"id": "x"}}, id="no number"),
        pytest.param({"id": "p", "type": "zen:event-type:ticket.created", "detail": None}, id="no detail"),
        pytest.param({"hello": "there"}, id="something else"),
    ],
)
def test_what_names_no_ticket_is_set_aside(synced: World, payload: dict[str, Any]) -> None:
    """A signed payload that names no ticket is set aside with a reason, and blocks nothing behind it."""
    deliver(synced, payload)
    deliver(synced, event(live(synced)[0]))
    assert drained(synced) == Drained(drained=1, aside=1, moved=1)
    aside, fine = synced.rows("inbox")
    assert (aside["inbox_state"], aside["reason"]) == ("aside", "names no ticket that can be read")
    assert fine["inbox_state"] == "drained"


def test_a_ticket_that_is_gone_keeps_what_was_known(synced: World) -> None:
    """A ticket that Zendesk answers 404 for is gone: the row says so, and keeps its customer and its subject."""
    ticket_id = live(synced)[0]
    deliver(synced, event(ticket_id))
    drained(synced)
    before = ticket(synced, ticket_id)
    change(synced, ticket_id, permanently_deleted=True)
    deliver(synced, event(ticket_id, "permanently_deleted"))
    deliver(synced, event(99_999))
    assert drained(synced) == Drained(drained=2, moved=2, gone=2)
    after = ticket(synced, ticket_id)
    assert (after["gone"], after["status"]) == (True, "deleted")
    assert [after[name] for name in ("subject", "customer_key")] == [
        before[name] for name in ("subject", "customer_key")
    ]
    assert ticket(synced, 99_999)["gone"] is True
    assert [row["kind"] for row in synced.rows("ticket_event")] == ["updated", "deleted", "updated"]


def test_a_restored_ticket_is_back(synced: World) -> None:
    """A ticket that was deleted softly and restored is there again."""
    ticket_id = live(synced)[0]
    change(synced, ticket_id, deleted=True)
    deliver(synced, event(ticket_id, "soft_deleted"))
    drained(synced)
    assert ticket(synced, ticket_id)["gone"] is True
    change(synced, ticket_id, deleted=False)
    deliver(synced, event(ticket_id, "undeleted"))
    drained(synced)
    assert (ticket(synced, ticket_id)["gone"], ticket(synced, ticket_id)["status"]) == (False, "open")


def test_tickets_that_we_may_not_see_are_a_persons_to_mend(synced: World) -> None:
    """403 is not gone: the drain fails for a person to look, and nothing of it is lost."""
    deliver(synced, event(live(synced)[0]))
    synced.fault("GET /api/v2/tickets/*", status=403, body={"error": "Forbidden"}, times=None)
    with pytest.raises(FixFirst, match="permit"):
        drained(synced)
    assert [row["inbox_state"] for row in synced.rows("inbox")] == ["pending"]
    assert synced.rows("ticket") == []
    synced.sandbox.delete_control("faults")
    assert drained(synced) == Drained(drained=1, moved=1)


def test_one_that_is_left_out_of_the_list_is_not_gone(synced: World) -> None:
    """A ticket that a list leaves out is asked for by itself before it is called gone."""
    ticket_id = live(synced)[0]
    deliver(synced, event(ticket_id))
    synced.fault("GET /api/v2/tickets/show_many", status=200, body={"tickets": []})
    assert drained(synced) == Drained(drained=1, moved=1)
    assert ticket(synced, ticket_id)["gone"] is False


def test_an_outage_leaves_deliveries_pending(synced: World) -> None:
    """While Zendesk is away deliveries stay pending; the next drain takes them."""
    deliver(synced, event(live(synced)[0]))
    synced.fault("GET /api/v2/tickets/*", status=503, times=None)
    with pytest.raises(TryLater):
        drained(synced)
    synced.sandbox.delete_control("faults")
    assert drained(synced).drained == 1


def test_more_than_a_hundred_take_a_few_calls(world: World) -> None:
    """Tickets are fetched a hundred a call, however many deliveries name them."""
    ids = live(world)[:150]
    assert len(ids) > 110
    for ticket_id in ids:
        deliver(world, event(ticket_id))
    assert drained(world).drained == len(ids)
    assert world.calls()["GET /api/v2/tickets/show_many"] == 2
    assert world.calls()["GET /api/v2/tickets/{id:int}"] == 0


# -- whose ticket ------------------------------------------------------------------------------------------------------


def test_tickets_are_matched_with_a_reason(synced: World) -> None:
    """A ticket belongs to its organization's customer, else to its requester's only one, else a reason says why not."""
    users, organizations = synced.users(), synced.organizations()
    made = {
        "requester": {"requester_id": users["50007"]["id"]},
        "organization": {"requester_id": users["50007"]["id"], "organization_id": organizations["C0000205"]["id"]},
        "ambiguous": {"requester_id": users["50003"]["id"]},
        "requester_unknown": {"requester_email": "nobody@qad.knows"},
    }
    ids = {}
    for reason, values in made.items():
        ids[reason] = synced.sandbox.post_control("tickets", values)["ticket"]["id"]
        if reason != "organization":
            change(synced, ids[reason], organization_id=None)
        deliver(synced, event(ids[reason], "created"))
    drained(synced)
    found = {reason: ticket(synced, ticket_id) for reason, ticket_id in ids.items()}
    assert {
        reason: (row["match_reason"], row["customer_key"], row["match_detail"]) for reason, row in found.items()
    } == {
        "requester": ("requester", "C0000207", ""),
        "organization": ("organization", "C0000205", ""),
        "ambiguous": ("ambiguous", None, "C0000203, C0000204"),
        "requester_unknown": ("requester_unknown", None, ""),
    }
    told = synced.rows("audit_entry", kind="ticket")
    assert sorted(row["record_key"] for row in told) == sorted(str(ids[one]) for one in ("requester", "organization"))


def test_tickets_from_before_the_first_sync_are_matched_after_it(small: World) -> None:
    """Tickets that were there before any link are matched once links appear, closed ones too, with one event each."""
    ids = [row["id"] for row in small.there()["tickets"] if row["status"] != "deleted"]
    change(small, ids[0], status="closed")
    for ticket_id in ids:
        deliver(small, event(ticket_id))
    drained(small)
    assert {row["match_reason"] for row in small.rows("ticket")} == {"requester_unknown"}
    assert match_again(small.ledger, small.account.account_id) == 0
    small.sync()
    moved = match_again(small.ledger, small.account.account_id)
    matched = [row for row in small.rows("ticket") if row["customer_key"]]
    assert 5 < moved == len(matched)
    closed = [row for row in small.rows("ticket") if row["status"] == "closed"]
    requesters = {row["zendesk_id"] for row in small.rows("link", kind="user")}
    assert [
        row["ticket_id"] for row in closed if row["customer_key"] is None and row["match_reason"] != "ambiguous"
    ] == [row["ticket_id"] for row in closed if row["requester_id"] not in requesters]
    events = small.rows("ticket_event", found_by="link")
    assert sorted(row["ticket_id"] for row in events) == sorted(row["ticket_id"] for row in matched)
    assert match_again(small.ledger, small.account.account_id) == 0
    assert len(small.rows("ticket_event", found_by="link")) == moved


def test_a_closed_ticket_keeps_its_customer(synced: World) -> None:
    """An open ticket follows its requester's links; a closed one keeps the customer it had."""
    users = synced.users()
    ids = [synced.sandbox.post_control("tickets", {"requester_id": users["50007"]["id"]})["ticket"]["id"] for _ in "ab"]
    for ticket_id in ids:
        change(synced, ticket_id, organization_id=None)
        deliver(synced, event(ticket_id, "created"))
    change(synced, ids[0], **CLOSED)
    deliver(synced, event(ids[0]))
    drained(synced)
    # the requester now belongs to two customers
    synced.sandbox.post_control("contacts", {"id": 50007, "customers": ["C0000207", "C0000209"]})
    synced.sync()
    match_again(synced.ledger, synced.account.account_id)
    assert [ticket(synced, one)["customer_key"] for one in ids] == ["C0000207", None]
    assert ticket(synced, ids[1])["match_reason"] == "ambiguous"
    # a later version of the closed one keeps it as well
    deliver(synced, event(ids[0]))
    drained(synced)
    assert ticket(synced, ids[0])["customer_key"] == "C0000207"
