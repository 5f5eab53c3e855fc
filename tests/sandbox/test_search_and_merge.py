"""Search and its export, the merging of accounts, samples of exports, and what a trigger may be made of."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_qadzd.sandbox import Sandbox

from .conftest import Client, token_for
from .test_accounts import organization, user


def found(zendesk: Client, query: str) -> list[Any]:
    """The names or subjects that a search finds."""
    rows = zendesk.get("/api/v2/search.json", query=query).json()["results"]
    return sorted(str(row.get("subject") or row.get("name")) for row in rows)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("quillon", ["Quillon Ann", "Quillon Pumps"]),
        ("type:organization quillon", ["Quillon Pumps"]),
        ("type:user email:ANN@x.example", ["Quillon Ann"]),
        ("type:organization external_id:k1", ["Quillon Pumps"]),
        ('name:"quillon pumps"', ["Quillon Pumps"]),
        ("quillon tags:blue", ["Quillon Pumps"]),
        ("quillon -tags:blue", ["Quillon Ann"]),
        ("quillon created>2000-01-01", ["Quillon Ann", "Quillon Pumps"]),
        ("quillon created<2000-01-01", []),
    ],
)
def test_a_query_is_words_and_terms(zendesk: Client, query: str, names: list[str]) -> None:
    """Every part of a query must fit, and it goes over all types unless one is named."""
    organization(zendesk, "Quillon Pumps", external_id="K1", tags=["blue"])
    user(zendesk, "Quillon Ann", email="ann@x.example")
    assert found(zendesk, query) == names
    assert zendesk.get("/api/v2/search/count", query=query).json() == {"count": len(names)}


def test_statuses_are_compared(zendesk: Client) -> None:
    """status<solved is every ticket that is still being worked on."""
    rows = zendesk.get("/api/v2/search", query="type:ticket status<solved", sort_by="created_at").json()["results"]
    assert {row["status"] for row in rows} <= {"new", "open", "pending", "hold"}
    stamps = [row["created_at"] for row in rows]
    assert stamps == sorted(stamps, reverse=True)


def test_search_ends_at_a_thousand_results(zendesk: Client) -> None:
    """A page that reaches beyond 1,000 results is 422 with the code invalid, however few there are."""
    assert zendesk.get("/api/v2/search", query="type:user", page=10).status_code == 200
    refused = zendesk.get("/api/v2/search", query="type:user", page=11)
    assert (refused.status_code, refused.json()["error"]) == (422, "invalid")


def test_new_records_are_found_when_the_search_has_caught_up(sandbox: Sandbox, zendesk: Client) -> None:
    """With a lag, a record is not found until it is as old as that."""
    sandbox.post_control("settings", {"search_lag": 60})
    organization(zendesk, "Quillon Pumps")
    assert found(zendesk, "quillon") == []
    sandbox.post_control("clock", {"advance": 61})
    assert found(zendesk, "quillon") == ["Quillon Pumps"]


def test_a_search_export_covers_all_and_its_cursor_lives_an_hour(sandbox: Sandbox, zendesk: Client) -> None:
    """Pages of one type by cursor hold every hit once; an hour later the cursor is refused."""
    ids, query = [], {"query": "created>2000-01-01", "filter[type]": "user", "page[size]": 25}
    place: dict[str, str] = {}
    while True:
        page = zendesk.get("/api/v2/search/export.json", **query, **place).json()
        ids += [row["id"] for row in page["results"]]
        if not page["meta"]["has_more"]:
            break
        place = {"page[after]": page["meta"]["after_cursor"]}
    assert len(ids) == len(set(ids)) == zendesk.get("/api/v2/search/count", query="type:user").json()["count"]
    sandbox.post_control("clock", {"advance": 3600})
    zendesk.session.headers["Authorization"] = f"Bearer {token_for(sandbox.url)}"
    late = zendesk.get("/api/v2/search/export", **query, **place)
    assert (late.status_code, late.json()["errors"][0]["code"]) == (400, "InvalidPaginationParameter")


def test_a_search_export_needs_one_type(zendesk: Client) -> None:
    """Without filter[type], or with another type in the query, it is 422."""
    for query in ({"query": "a"}, {"query": "type:ticket", "filter[type]": "user"}):
        assert zendesk.get("/api/v2/search/export", **query).status_code == 422


def test_organizations_merge_after_a_while(sandbox: Sandbox, zendesk: Client) -> None:
    """New, in progress, complete: then the loser is gone and its people, tickets and domains are the winner's."""
    sandbox.post_control("clock", {"frozen": True})
    sandbox.post_control("settings", {"job_delay": 10})
    winner = organization(zendesk, "Winner", domain_names=["w.example"])["id"]
    loser = organization(zendesk, "Loser", domain_names=["l.example"], external_id="L")["id"]
    ana = user(zendesk, "Ana", email="ana@l.example", organization_id=loser)["id"]
    ticket = sandbox.post_control("tickets", {"requester_id": ana, "status": "open"})["ticket"]["id"]
    body = {"organization_merge": {"winner_id": winner}}
    merge = zendesk.post(f"/api/v2/organizations/{loser}/merge", body).json()["organization_merge"]
    seen = [merge["status"]]
    for _ in range(2):
        sandbox.post_control("clock", {"advance": 6})
        shown = zendesk.get(f"/api/v2/organization_merges/{merge['id']}").json()
        seen.append(shown["organization_merge"]["status"])
    assert seen == ["new", "in_progress", "complete"]
    assert zendesk.get(f"/api/v2/organizations/{loser}").status_code == 404
    assert zendesk.get(f"/api/v2/users/{ana}").json()["user"]["organization_id"] == winner
    assert zendesk.get(f"/api/v2/tickets/{ticket}").json()["ticket"]["organization_id"] == winner
    shown = zendesk.get(f"/api/v2/organizations/{winner}").json()["organization"]
    assert (shown["domain_names"], shown["external_id"]) == (["w.example", "l.example"], None)
    assert [row["id"] for row in zendesk.get(f"/api/v2/organizations/{winner}/merges").json()["organization_merges"]]


def test_a_merge_into_nothing_is_refused(sandbox: Sandbox, zendesk: Client) -> None:
    """An organization cannot be merged with itself or nobody; one that goes meanwhile ends the merge in error."""
    sandbox.post_control("settings", {"job_delay": 10})
    one, two = organization(zendesk, "One")["id"], organization(zendesk, "Two")["id"]
    for winner, status in ((one, 422), (7, 422), (two, 200)):
        reply = zendesk.post(f"/api/v2/organizations/{one}/merge", {"organization_merge": {"winner_id": winner}})
        assert reply.status_code == status
    zendesk.delete(f"/api/v2/organizations/{two}")
    sandbox.post_control("clock", {"advance": 10})
    path = f"/api/v2/organization_merges/{reply.json()['organization_merge']['id']}"
    assert zendesk.get(path).json()["organization_merge"]["status"] == "error"
    assert zendesk.get(f"/api/v2/organizations/{one}").status_code == 200


def test_users_merge_at_once(sandbox: Sandbox, zendesk: Client) -> None:
    """The winner gets addresses and tickets and keeps its external id; staff cannot be merged."""
    winner = user(zendesk, "Ana", email="ana@x.example", external_id="W")["id"]
    loser = user(zendesk, "Ana too", email="ana2@x.example", external_id="L")["id"]
    ticket = sandbox.post_control("tickets", {"requester_id": loser, "status": "open"})["ticket"]["id"]
    shown = zendesk.put(f"/api/v2/users/{loser}/merge", {"user": {"id": winner}}).json()["user"]
    assert (shown["id"], shown["email"], shown["external_id"]) == (winner, "ana@x.example", "W")
    rows = zendesk.get(f"/api/v2/users/{winner}/identities").json()["identities"]
    assert [(row["value"], row["primary"]) for row in rows] == [("ana@x.example", True), ("ana2@x.example", False)]
    assert zendesk.get(f"/api/v2/tickets/{ticket}").json()["ticket"]["requester_id"] == winner
    assert zendesk.get(f"/api/v2/users/{loser}").json()["user"]["active"] is False
    admin = sandbox.get_control("state")["admin_id"]
    assert zendesk.put(f"/api/v2/users/{winner}/merge", {"user": {"id": admin}}).status_code == 422


@pytest.mark.parametrize("name", ["tickets", "users", "organizations", "ticket_events"])
def test_a_sample_is_a_small_export(zendesk: Client, name: str) -> None:
    """A sample has the form of the export and 50 rows at most; other names are no endpoint."""
    page = zendesk.get(f"/api/v2/incremental/{name}/sample.json", start_time=0).json()
    whole = zendesk.get(f"/api/v2/incremental/{name}.json", start_time=0).json()
    assert set(page) == set(whole)
    assert len(page[name]) == min(50, len(whole[name])) > 0
    assert zendesk.get("/api/v2/incremental/macros/sample", start_time=0).status_code == 404


def test_samples_have_a_limit_of_their_own(sandbox: Sandbox, zendesk: Client) -> None:
    """Ten samples in twenty minutes, beside the ten exports a minute."""
    sandbox.post_control("limits", {"enabled": True})
    sandbox.post_control("clock", {"frozen": True})
    path = "/api/v2/incremental/users/sample"
    assert [zendesk.get(path, start_time=0).status_code for _ in range(11)] == [200] * 10 + [429]
    assert zendesk.get("/api/v2/incremental/users", start_time=0).status_code == 200
    sandbox.post_control("clock", {"advance": 1199})
    assert zendesk.get(path, start_time=0).headers["retry-after"] == "1"
    sandbox.post_control("clock", {"advance": 1})
    assert zendesk.get(path, start_time=0).status_code == 200


def test_ticket_updates_and_search_exports_are_limited(sandbox: Sandbox, zendesk: Client) -> None:
    """30 updates of a ticket in ten minutes, 100 search exports a minute, each refused in JSON."""
    sandbox.post_control("limits", {"enabled": True, "search_exports_per_minute": 1})
    sandbox.post_control("clock", {"frozen": True})
    ticket = sandbox.post_control("tickets", {"status": "open"})["ticket"]["id"]
    statuses = [
        zendesk.put(f"/api/v2/tickets/{ticket}", {"ticket": {"tags": [f"t{n}"]}}).status_code for n in range(31)
    ]
    assert statuses == [200] * 30 + [429]
    query = {"query": "a", "filter[type]": "user"}
    assert [zendesk.get("/api/v2/search/export", **query).status_code for _ in range(2)] == [200, 429]


def test_metric_events_come_a_hundred_at_a_time(zendesk: Client) -> None:
    """The clocks of tickets are exported by time, in pages of about a hundred."""
    page = zendesk.get("/api/v2/incremental/ticket_metric_events", start_time=0).json()
    assert 100 <= len(page["ticket_metric_events"]) < 120
    assert not page["end_of_stream"]
    assert {row["type"] for row in page["ticket_metric_events"]} <= {"activate", "fulfill", "measure"}


def test_definitions_name_what_a_solved_trigger_needs(zendesk: Client) -> None:
    """The status can be asked for as changed to solved, and a webhook can be notified."""
    shown = zendesk.get("/api/v2/triggers/definitions").json()["definitions"]
    status = next(row for row in shown["conditions_all"] if row["subject"] == "status")
    assert "value" in {row["value"] for row in status["operators"]}
    assert "solved" in {row["value"] for row in status["values"]}
    assert "notification_webhook" in {row["subject"] for row in shown["actions"]}
