"""Request limits, each in its own form, and the faults that can be ordered."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from airflow_provider_qadzd.sandbox import Sandbox

from .conftest import Client

CREATE_MANY = "POST /api/v2/organizations/create_many"


@pytest.fixture
def limited(sandbox: Sandbox) -> Sandbox:
    """The sandbox with its limits on and its clock standing still."""
    sandbox.post_control("limits", {"enabled": True})
    sandbox.post_control("clock", {"frozen": True})
    return sandbox


def test_the_account_limit_is_told_and_kept(limited: Sandbox, zendesk: Client) -> None:
    """Headers count down; the call past the limit is 429 with Retry-After; a minute later calls pass again."""
    limited.post_control("limits", {"requests_per_minute": 3})
    left = [zendesk.get("/api/v2/users/me").headers["x-rate-limit-remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    refused = zendesk.get("/api/v2/users/me")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    stats, clock = limited.get_control("stats"), limited.get_control("clock")
    assert stats["rate_limited"] == 1
    assert stats["refusals"] == [[clock["now"], "GET /api/v2/users/me"]]
    limited.post_control("clock", {"advance": 60})
    assert zendesk.get("/api/v2/users/me").status_code == 200


def test_ten_exports_a_minute_over_all_resources(limited: Sandbox, zendesk: Client) -> None:
    """The incremental exports share ten calls a minute and say where they stand."""
    names = ["tickets/cursor", "users/cursor", "organizations", "ticket_events", "tickets"] * 2
    replies = [zendesk.get(f"/api/v2/incremental/{name}.json", start_time=0) for name in names]
    assert [reply.status_code for reply in replies] == [200] * 10
    assert replies[0].headers["zendesk-ratelimit-incremental-exports"].startswith("total=10; remaining=9; resets=")
    refused = zendesk.get("/api/v2/incremental/users.json", start_time=0)
    assert (refused.status_code, refused.json()["error"]) == (429, "APIRateLimitExceeded")
    assert "incremental export" in refused.json()["description"]


def test_user_updates_are_limited_in_plain_text(limited: Sandbox, zendesk: Client) -> None:
    """One user update a second for the account and five a minute for the user, refused as text/plain."""
    user_id = zendesk.post("/api/v2/users", {"user": {"name": "Ana"}}).json()["user"]["id"]
    path, body = f"/api/v2/users/{user_id}", {"user": {"notes": "n"}}
    assert zendesk.put(path, body).status_code == 200
    refused = zendesk.put(path, body)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.headers["content-type"].startswith("text/plain")
    for _ in range(4):
        limited.post_control("clock", {"advance": 1})
        assert zendesk.put(path, body).status_code == 200
    limited.post_control("clock", {"advance": 1})
    refused = zendesk.put(path, body)
    assert refused.status_code == 429
    assert "single unique user" in refused.text


def test_five_updates_a_minute_for_an_organization(limited: Sandbox, zendesk: Client) -> None:
    """The sixth PUT of one organization in a minute is 429 in an envelope of its own."""
    path = f"/api/v2/organizations/{limited.get_control('state')['organizations'][0]['id']}"
    statuses = [zendesk.put(path, {"organization": {"notes": "n"}}).status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    assert zendesk.put(path, {"organization": {}}).json()["errors"][0]["code"] == "TooManyRequests"


@pytest.mark.parametrize("retry_after", ["2", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", None])
def test_a_status_fault_carries_what_it_is_told(sandbox: Sandbox, zendesk: Client, retry_after: str | None) -> None:
    """A fault answers in place of the call, once, with any form of Retry-After, and the call has no effect."""
    rule = {"match": CREATE_MANY, "status": 429, "retry_after": retry_after, "content_type": "text/plain"}
    sandbox.post_control("faults", {**rule, "body": "slow down"})
    body = {"organizations": [{"name": "A"}]}
    refused = zendesk.post("/api/v2/organizations/create_many.json", body)
    assert (refused.status_code, refused.text, refused.headers.get("retry-after")) == (429, "slow down", retry_after)
    assert sandbox.get_control("state")["counts"]["organizations"] == 2
    assert zendesk.post("/api/v2/organizations/create_many.json", body).status_code == 200


def test_a_lost_answer_leaves_its_effect(sandbox: Sandbox, zendesk: Client) -> None:
    """With after_effect the connection closes without an answer although the record is there."""
    sandbox.post_control("faults", {"match": "POST /api/v2/organizations", "after_effect": True})
    with pytest.raises(requests.ConnectionError):
        zendesk.post("/api/v2/organizations.json", {"organization": {"name": "There", "external_id": "T"}})
    assert zendesk.get("/api/v2/organizations/search", external_id="T").json()["count"] == 1
    assert sandbox.get_control("stats")["statuses"]["lost"] == 1


def test_a_dropped_call_has_no_effect(sandbox: Sandbox, zendesk: Client) -> None:
    """A drop closes the connection before anything happens."""
    sandbox.post_control("faults", {"match": "POST /api/v2/organizations", "action": "drop"})
    with pytest.raises(requests.ConnectionError):
        zendesk.post("/api/v2/organizations.json", {"organization": {"name": "Not there", "external_id": "T"}})
    assert zendesk.get("/api/v2/organizations/search", external_id="T").json()["count"] == 0


def test_an_answer_can_break_off(sandbox: Sandbox, qad: Client) -> None:
    """reset-after sends the head and a part of the body, then resets the connection."""
    sandbox.post_control("faults", {"match": "GET /clouderp/*", "action": "reset-after", "after_bytes": 10})
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        qad.get("/api/webshell/workspaces")


def test_html_in_place_of_json(sandbox: Sandbox, qad: Client) -> None:
    """An html fault answers 200 with a page, as a login portal does."""
    sandbox.post_control("faults", {"match": "GET /clouderp/*", "action": "html"})
    reply = qad.get("/api/webshell/workspaces")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_a_delay_takes_its_time_and_then_answers(sandbox: Sandbox, qad: Client) -> None:
    """A delayed call waits for real and succeeds."""
    sandbox.post_control("faults", {"match": "GET /clouderp/*", "action": "delay", "seconds": 0.15})
    begun = time.monotonic()
    assert qad.get("/api/webshell/workspaces").status_code == 200
    assert time.monotonic() - begun >= 0.15


@pytest.mark.parametrize(
    ("rule", "statuses"),
    [
        ({"times": 2}, [500, 500, 200, 200]),
        ({"every": 2, "times": None}, [200, 500, 200, 500]),
        ({"skip": 1}, [200, 500, 200, 200]),
        ({"contains": "elsewhere"}, [200, 200, 200, 200]),
    ],
    ids=["twice", "each second", "not the first", "only with a text"],
)
def test_rules_say_how_often_they_fire(
    sandbox: Sandbox, zendesk: Client, rule: dict[str, Any], statuses: list[int]
) -> None:
    """times, every, skip and contains choose the calls."""
    sandbox.post_control("faults", {"match": "GET /api/v2/users/me", "status": 500, **rule})
    assert [zendesk.get("/api/v2/users/me.json").status_code for _ in range(4)] == statuses
    sandbox.delete_control("faults")
    assert sandbox.get_control("faults") == {"faults": []}


def test_the_last_thousand_refusals_are_dated(sandbox: Sandbox, zendesk: Client) -> None:
    """Each 429 is listed with the sandbox's time and its route, however it came about, and the list is bounded."""
    sandbox.post_control("clock", {"frozen": True})
    begun = sandbox.get_control("clock")["now"]
    sandbox.post_control("faults", {"match": "GET /api/v2/users/me", "status": 429, "times": None})
    for _ in range(1001):
        zendesk.get("/api/v2/users/me.json")
    sandbox.post_control("clock", {"advance": 2.5})
    zendesk.get("/api/v2/users/me.json")
    refusals = sandbox.get_control("stats")["refusals"]
    assert len(refusals) == 1000
    assert refusals[0] == [begun, "GET /api/v2/users/me"]
    assert refusals[-1] == [begun + 2.5, "GET /api/v2/users/me"]
    sandbox.post_control("reset-stats")
    assert sandbox.get_control("stats")["refusals"] == []


def test_a_rule_with_an_unknown_word_is_refused(sandbox: Sandbox) -> None:
    """A misspelt rule or setting is an error, not a rule that never fires."""
    for path, body in (("faults", {"match": "GET *", "tymes": 1}), ("settings", {"delay": 1}), ("limits", {"rpm": 1})):
        with pytest.raises(ValueError, match="400"):
            sandbox.post_control(path, body)


def test_calls_are_counted_by_route_and_status(sandbox: Sandbox, zendesk: Client) -> None:
    """Counts go by method and route, writes are counted apart, and reset-stats begins again."""
    sandbox.post_control("reset-stats")
    zendesk.get("/api/v2/organizations/1.json")
    zendesk.get("/api/v2/organizations/2")
    zendesk.post("/api/v2/organizations", {"organization": {"name": "W"}})
    stats = sandbox.get_control("stats")
    assert stats["calls"] == {"GET /api/v2/organizations/{id:int}": 2, "POST /api/v2/organizations": 1}
    assert stats["status_classes"] == {"4xx": 2, "2xx": 1}
    assert stats["zendesk_writes"] == 1
    sandbox.post_control("reset-stats")
    assert sandbox.get_control("stats")["total"] == 0
