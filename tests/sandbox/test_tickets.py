"""Tickets, the incremental exports over them, and the webhooks that they set off."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
import requests

from airflow_provider_qadzd.sandbox import Sandbox

from .conftest import Client, Receiver

CURSOR = "/api/v2/incremental/tickets/cursor.json"
EVENTS = ["zen:event-type:ticket.created", "zen:event-type:ticket.status_changed", "zen:event-type:ticket.merged"]


def export(zendesk: Client, per_page: int, **more: Any) -> tuple[list[dict[str, Any]], str]:
    """All tickets by cursor, and the cursor to go on from."""
    rows, params = [], {"start_time": 0, "per_page": per_page, **more}
    while True:
        page = zendesk.get(CURSOR, **params).json()
        rows += page["tickets"]
        if page["end_of_stream"]:
            return rows, page["after_cursor"]
        params = {"cursor": page["after_cursor"], "per_page": per_page, **more}


def hook(zendesk: Client, receiver: Receiver, subscriptions: list[str]) -> dict[str, Any]:
    """A webhook to the receiver, with its signing secret."""
    values = {"name": "Ours", "endpoint": receiver.url, "http_method": "POST", "request_format": "json"}
    body = {"webhook": {**values, "status": "active", "subscriptions": subscriptions}}
    reply = zendesk.post("/api/v2/webhooks", body)
    assert reply.status_code == 201, reply.text
    row: dict[str, Any] = reply.json()["webhook"]
    secret = zendesk.get(f"/api/v2/webhooks/{row['id']}/signing_secret").json()["signing_secret"]["secret"]
    return {**row, "secret": secret}


def is_signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a delivery carries the right signature."""
    message = headers["x-zendesk-webhook-signature-timestamp"].encode() + body
    wanted = base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()
    return headers["x-zendesk-webhook-signature"] == wanted


@pytest.mark.parametrize("per_page", [7, 200, 1000], ids=["small pages", "exactly one page", "one page"])
def test_the_cursor_export_gives_every_ticket_once_in_the_order_of_change(zendesk: Client, per_page: int) -> None:
    """All 200 tickets come once, ordered by generated_timestamp, whatever the page size."""
    rows, _ = export(zendesk, per_page)
    stamps = [row["generated_timestamp"] for row in rows]
    assert len({row["id"] for row in rows}) == len(rows) == 200
    assert stamps == sorted(stamps)


def test_the_last_minute_is_withheld_and_a_cursor_goes_on(sandbox: Sandbox, zendesk: Client) -> None:
    """A change shows up in the export once it is a minute old, behind the stored cursor, and nothing else does."""
    _, cursor = export(zendesk, 1000)
    sandbox.post_control("tickets", {"id": 7, "subject": "Changed"})
    assert zendesk.get(CURSOR, cursor=cursor).json()["tickets"] == []
    sandbox.post_control("clock", {"advance": 61})
    page = zendesk.get(CURSOR, cursor=cursor).json()
    assert [(row["id"], row["subject"]) for row in page["tickets"]] == [(7, "Changed")]
    assert page["end_of_stream"] is True


@pytest.mark.parametrize("name", ["tickets/cursor", "users/cursor", "organizations", "ticket_events"])
def test_a_start_time_must_be_a_minute_old(sandbox: Sandbox, zendesk: Client, name: str) -> None:
    """Too recent a start_time is 422 InvalidValue on every export."""
    sandbox.post_control("clock", {"frozen": True})
    now = int(sandbox.state.now)
    young = zendesk.get(f"/api/v2/incremental/{name}.json", start_time=now - 30)
    assert (young.status_code, young.json()["error"]) == (422, "InvalidValue")
    assert zendesk.get(f"/api/v2/incremental/{name}.json", start_time=now - 61).status_code == 200


def test_deleted_tickets_are_exported_and_shown_nowhere_else(zendesk: Client) -> None:
    """A deleted ticket has status deleted in the export, can be left out, is left out by show_many, and is 404."""
    rows, _ = export(zendesk, 1000)
    (gone,) = [row["id"] for row in rows if row["status"] == "deleted"]
    kept, _ = export(zendesk, 1000, exclude_deleted="true")
    assert gone not in {row["id"] for row in kept}
    assert zendesk.get(f"/api/v2/tickets/{gone}").status_code == 404
    found = zendesk.get("/api/v2/tickets/show_many", ids=f"{gone},1,2").json()["tickets"]
    assert [row["id"] for row in found] == [1, 2]


def test_sideloads_come_with_the_page(zendesk: Client) -> None:
    """include=users,metric_sets brings the people of the page and one metric set for each ticket."""
    page = zendesk.get(CURSOR, start_time=0, per_page=5, include="users,metric_sets").json()
    assert {row["requester_id"] for row in page["tickets"]} <= {row["id"] for row in page["users"]}
    assert [row["ticket_id"] for row in page["metric_sets"]] == [row["id"] for row in page["tickets"]]


def test_a_page_by_time_does_not_end_between_rows_of_one_second(sandbox: Sandbox, zendesk: Client) -> None:
    """Rows that share a second come together although the page is full, and repeat at the next start_time."""
    sandbox.post_control("clock", {"frozen": True})
    start = int(sandbox.state.now)
    for name in ("A", "B", "C"):
        zendesk.post("/api/v2/organizations", {"organization": {"name": name}})
    sandbox.post_control("clock", {"advance": 120})
    page = zendesk.get("/api/v2/incremental/organizations.json", start_time=start, per_page=1).json()
    assert (page["count"], page["end_time"], page["end_of_stream"]) == (3, start, False)
    assert f"start_time={start}" in page["next_page"]


def test_history_tells_each_change_of_a_ticket(sandbox: Sandbox, zendesk: Client) -> None:
    """ticket_events has the change with its previous value, and the comments' texts when they are asked for."""
    start = int(sandbox.state.now)
    made = sandbox.post_control("tickets", {"subject": "S", "description": "The text"})["ticket"]["id"]
    sandbox.post_control("tickets", {"id": made, "status": "solved"})
    sandbox.post_control("clock", {"advance": 61})
    path = "/api/v2/incremental/ticket_events.json"
    first, second = zendesk.get(path, start_time=start, include="comment_events").json()["ticket_events"]
    assert [child["event_type"] for child in first["child_events"]] == ["Create", "Comment"]
    assert first["child_events"][1]["body"] == "The text"
    (change,) = second["child_events"]
    assert (second["ticket_id"], change["status"], change["previous_value"]) == (made, "solved", "new")


def test_tickets_take_their_requesters_organization_and_close_for_good(sandbox: Sandbox, zendesk: Client) -> None:
    """A new ticket belongs to its requester's organization; a closed one refuses changes."""
    home = zendesk.post("/api/v2/organizations", {"organization": {"name": "Home"}}).json()["organization"]["id"]
    values = {"name": "Ana", "email": "ana@x.example", "organization_id": home, "verified": True}
    ana = zendesk.post("/api/v2/users", {"user": values}).json()["user"]["id"]
    body = {"ticket": {"requester_id": ana, "comment": {"body": "Hello"}, "status": "closed"}}
    ticket = zendesk.post("/api/v2/tickets", body).json()["ticket"]
    assert ticket["organization_id"] == home
    assert zendesk.put(f"/api/v2/tickets/{ticket['id']}", {"ticket": {"status": "open"}}).status_code == 422


def test_a_ticket_weighs_what_a_real_one_weighs(zendesk: Client) -> None:
    """Tickets are one to three kilobytes each, so that reading them costs what it should."""
    size = len(zendesk.get(CURSOR, start_time=0).content) / 200
    assert 1000 < size < 3500


def test_events_are_signed_and_shaped(sandbox: Sandbox, zendesk: Client, receiver: Receiver) -> None:
    """A created and a solved ticket arrive with the right signature, ids as text, words in capitals."""
    ours = hook(zendesk, receiver, EVENTS)
    made = sandbox.post_control("tickets", {"subject": "S", "wait": True})
    sandbox.post_control("tickets", {"id": made["ticket"]["id"], "status": "solved", "wait": True})
    created, solved = receiver.seen
    assert is_signed(ours["secret"], *created)
    assert is_signed(ours["secret"], *solved)
    first, second = json.loads(created[1]), json.loads(solved[1])
    assert (first["type"], first["event"]) == ("zen:event-type:ticket.created", {})
    assert second["event"] == {"current": "SOLVED", "previous": "NEW"}
    assert second["detail"]["id"] == str(made["ticket"]["id"])
    assert second["subject"] == f"zen:ticket:{made['ticket']['id']}"
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    ("answers", "statuses"),
    [
        ([(409, {}), (200, {})], [409, 200]),
        ([(409, {})] * 4, [409, 409, 409, 409]),
        ([(503, {"retry-after": "0"}), (200, {})], [503, 200]),
        ([(503, {"retry-after": "60"})], [503]),
        ([(429, {})], [429]),
        ([(500, {})], [500]),
    ],
    ids=["409", "409 for ever", "503 soon", "503 in a minute", "429 without a time", "500"],
)
def test_deliveries_are_repeated_as_zendesk_repeats_them(
    sandbox: Sandbox,
    zendesk: Client,
    receiver: Receiver,
    answers: list[tuple[int, dict[str, str]]],
    statuses: list[int],
) -> None:
    """409 is tried three times more, 429 and 503 only with a Retry-After under a minute, the rest once."""
    hook(zendesk, receiver, EVENTS)
    receiver.answers = list(answers)
    (delivery,) = sandbox.post_control("tickets", {"subject": "S", "wait": True})["deliveries"]
    assert delivery["statuses"] == statuses
    assert len({headers["x-zendesk-webhook-invocation-id"] for headers, _ in receiver.seen}) == 1


@pytest.mark.parametrize(("tamper", "valid"), [(None, [True]), ("forged", [False]), ("twice", [True, True])])
def test_a_delivery_can_be_forged_or_doubled(
    sandbox: Sandbox, zendesk: Client, receiver: Receiver, tamper: str | None, valid: list[bool]
) -> None:
    """The control interface delivers right, wrongly signed, and the same payload twice."""
    ours = hook(zendesk, receiver, EVENTS)
    body = {"ticket_id": 1, "type": "solved", "tamper": tamper}
    assert sandbox.post_control("webhooks/deliver", body)["statuses"] == [200] * len(valid)
    assert [is_signed(ours["secret"], *seen) for seen in receiver.seen] == valid
    assert len({payload for _, payload in receiver.seen}) == 1
    assert json.loads(receiver.seen[0][1])["detail"]["status"] == "SOLVED"


def test_a_stale_delivery_is_rightly_signed_with_an_old_time(
    sandbox: Sandbox, zendesk: Client, receiver: Receiver
) -> None:
    """A stale delivery has a good signature over a timestamp of an hour ago."""
    ours = hook(zendesk, receiver, EVENTS)
    sandbox.post_control("webhooks/deliver", {"ticket_id": 1, "type": "created", "tamper": "stale"})
    (seen,) = receiver.seen
    assert is_signed(ours["secret"], *seen)
    assert seen[0]["x-zendesk-webhook-signature-timestamp"] < sandbox.get_control("clock")["iso"]


def test_triggers_call_their_webhook(sandbox: Sandbox, zendesk: Client, receiver: Receiver) -> None:
    """A trigger on "changed to solved" fires once for the transition and not on later changes."""
    ours = hook(zendesk, receiver, ["conditional_ticket_events"])
    text = '{"kind": "solved", "ticket_id": "{{ticket.id}}"}'
    conditions = {"all": [{"field": "status", "operator": "value", "value": "solved"}], "any": []}
    actions = [{"field": "notification_webhook", "value": [ours["id"], text]}]
    trigger = {"title": "Solved", "conditions": conditions, "actions": actions}
    reply = zendesk.post("/api/v2/triggers", {"trigger": trigger})
    assert reply.status_code == 201
    made = sandbox.post_control("tickets", {"subject": "S"})["ticket"]["id"]
    sandbox.post_control("tickets", {"id": made, "status": "solved", "wait": True})
    sandbox.post_control("tickets", {"id": made, "comment": "Thanks", "wait": True})
    (seen,) = receiver.seen
    assert json.loads(seen[1]) == {"kind": "solved", "ticket_id": str(made)}
    assert is_signed(ours["secret"], *seen)
    path = f"/api/v2/triggers/{reply.json()['trigger']['id']}"
    assert zendesk.put(path, {"trigger": {"active": False}}).json()["trigger"]["active"] is False
    assert len(zendesk.get("/api/v2/triggers", **{"page[size]": 10}).json()["triggers"]) == 1
    assert zendesk.delete(path).status_code == 204


def test_webhooks_are_kept_changed_and_logged(sandbox: Sandbox, zendesk: Client, receiver: Receiver) -> None:
    """Changes answer 204, a new secret 201, and each invocation is listed with its attempts."""
    ours = hook(zendesk, receiver, EVENTS)
    path = f"/api/v2/webhooks/{ours['id']}"
    assert len(ours["id"]) == 26
    assert zendesk.post(f"{path}/signing_secret").json()["signing_secret"]["secret"] != ours["secret"]
    sandbox.post_control("tickets", {"subject": "S", "wait": True})
    (invocation,) = zendesk.get(f"{path}/invocations").json()["invocations"]
    assert (invocation["status"], invocation["status_code"]) == ("success", 200)
    (attempt,) = zendesk.get(f"{path}/invocations/{invocation['id']}/attempts").json()["attempts"]
    assert json.loads(attempt["request"]["payload"])["type"] == EVENTS[0]
    for method in ("PUT", "PATCH"):
        assert zendesk(method, path, json={"webhook": {"status": "inactive"}}).status_code == 204
    sandbox.post_control("tickets", {"subject": "S", "wait": True})
    assert len(receiver.seen) == 1
    assert zendesk.delete(path).status_code == 204
    assert zendesk.get(path).status_code == 404


def test_the_two_kinds_of_subscription_exclude_each_other(zendesk: Client, receiver: Receiver) -> None:
    """Events and conditional_ticket_events cannot be combined, nor exchanged afterwards."""
    values = {"name": "Ours", "endpoint": receiver.url, "http_method": "POST", "request_format": "json"}
    both = {**values, "subscriptions": ["conditional_ticket_events", *EVENTS]}
    assert zendesk.post("/api/v2/webhooks", {"webhook": both}).status_code == 400
    ours = hook(zendesk, receiver, EVENTS)
    change = {"webhook": {"subscriptions": ["conditional_ticket_events"]}}
    assert zendesk.put(f"/api/v2/webhooks/{ours['id']}", change).status_code == 400


def test_a_webhook_can_be_tested_before_it_exists(zendesk: Client, receiver: Receiver) -> None:
    """The test call is signed with the public secret and tells what the endpoint answered."""
    receiver.answers = [(202, {})]
    body = {"request": {"endpoint": receiver.url, "http_method": "POST", "payload": '{"a": 1}'}}
    assert zendesk.post("/api/v2/webhooks/test", body).json()["response"]["status"] == 202
    assert is_signed("dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==", *receiver.seen[0])


def test_a_ticket_can_vanish_for_good(sandbox: Sandbox, zendesk: Client) -> None:
    """A permanently deleted ticket is in no answer any more."""
    sandbox.post_control("tickets", {"id": 5, "permanently_deleted": True})
    rows, _ = export(zendesk, 1000)
    assert 5 not in {row["id"] for row in rows}
    with pytest.raises(ValueError, match="unknown ticket"):
        sandbox.post_control("tickets", {"id": 5})


def test_an_unreachable_receiver_is_logged_and_not_tried_again(sandbox: Sandbox, zendesk: Client) -> None:
    """A refused connection is one attempt with status 0."""
    values = {"name": "Nowhere", "endpoint": "http://127.0.0.1:9/", "http_method": "POST", "request_format": "json"}
    zendesk.post("/api/v2/webhooks", {"webhook": {**values, "subscriptions": EVENTS}})
    (delivery,) = sandbox.post_control("tickets", {"subject": "S", "wait": True})["deliveries"]
    assert delivery["statuses"] == [0]
    assert requests.get(f"{sandbox.url}/_sandbox/stats", timeout=30).json()["deliveries"] == [delivery]
