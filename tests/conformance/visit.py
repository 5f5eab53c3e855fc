"""Calls what the sandbox serves and our client does not call, in plain requests as another client would send them.

Nothing here judges. What is still not reached afterwards is named by `unreached`.
"""

from __future__ import annotations

import time
from typing import Any

import requests

from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sandbox.app import RESOURCES
from tests.conformance.drive import Record, Recorder

Row = dict[str, Any]


class Visitor:
    """A session with a token; each call gives the JSON of its answer, which must be a success."""

    def __init__(self, sandbox: Sandbox, session: requests.Session) -> None:
        self._sandbox, self._session = sandbox, session
        client = {"client_id": "sandbox", "client_secret": "sandbox", "scope": "read write"}
        token = self("POST", "/oauth/tokens", {"grant_type": "client_credentials", **client})
        session.headers["Authorization"] = f"Bearer {token['access_token']}"

    def __call__(self, method: str, path: str, body: Any = None, **query: Any) -> Row:
        url = path if path.startswith("/oauth") else f"/api/v2/{path}"
        answer = self._session.request(method, self._sandbox.url + url, params=query, json=body, timeout=30)
        if not answer.ok:
            raise RuntimeError(f"{method} {path} answered {answer.status_code}: {answer.text[:300]}")
        return dict(answer.json()) if answer.content else {}

    def get(self, path: str, **query: Any) -> Row:
        return self("GET", path, **query)

    def job(self, method: str, path: str, body: Any = None, **query: Any) -> Row:
        """The ended job that a bulk call started."""
        started = self(method, path, body, **query)["job_status"]
        return dict(self.get(f"job_statuses/{started['id']}")["job_status"])

    def pages(self, path: str, **query: Any) -> None:
        """The first page of a list by number, and by cursor."""
        self.get(path, page=1, per_page=30, **query)
        self.get(path, **{"page[size]": 30}, **query)


def visit(sandbox: Sandbox) -> Record:
    """Everything that went over the wire."""
    record = Record()
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", Recorder(record))
        visitor = Visitor(sandbox, session)
        for scene in SCENES:
            scene(visitor)
    return record


def unreached(sandbox: Sandbox) -> set[str]:
    """The routes of the sandbox's API that nobody has called."""
    calls = sandbox.get_control("stats")["calls"]
    table = [(method, row[1]) for resource in RESOURCES for row in resource.ROUTES for method in row[0].split()]
    return {f"{method} {path}" for method, path in table} - set(calls)


# -- scenes -----------------------------------------------------------------------------------------------------------


def _organization(v: Visitor, name: str, **more: Any) -> int:
    return int(v("POST", "organizations", {"organization": {"name": name, **more}})["organization"]["id"])


def _user(v: Visitor, name: str, **more: Any) -> int:
    body = {"user": {"name": name, "skip_verify_email": True, **more}}
    return int(v("POST", "users", body)["user"]["id"])


def organizations(v: Visitor) -> None:
    """Listed, counted, upserted, merged and deleted."""
    home = _organization(v, "Visited", domain_names=["visited.example"], tags=["v"], notes="n", details="d")
    v.pages("organizations")
    v.get("organizations/count")
    for name in ("Upserted", "Upserted again"):
        body = {"name": name, "external_id": "V-1"}
        other = v("POST", "organizations/create_or_update", {"organization": body})["organization"]["id"]
    merge = v("POST", f"organizations/{other}/merge", {"organization_merge": {"winner_id": home}})["organization_merge"]
    v.get(f"organization_merges/{merge['id']}")
    v.get(f"organizations/{home}/merges")
    gone = [_organization(v, f"Gone {number}") for number in range(3)]
    v("PUT", "organizations/update_many", {"organization": {"notes": "n"}}, ids=",".join(map(str, gone)))
    v("DELETE", f"organizations/{gone.pop()}")
    v.job("DELETE", "organizations/destroy_many", ids=",".join(map(str, [*gone, 1])))


def users(v: Visitor) -> None:
    """Listed, upserted alone and in bulk, merged and deleted."""
    v.pages("users")
    v.get("users", external_id="U-1")
    for name in ("Vera", "Vera Upserted"):
        body = {"name": name, "email": "vera@visited.example", "external_id": "W-1", "verified": True}
        vera = v("POST", "users/create_or_update", {"user": body})["user"]["id"]
    rows = [{"name": f"Upsert {n}", "email": "vera@visited.example" if n else "v0@visited.example"} for n in range(2)]
    v.job("POST", "users/create_or_update_many", {"users": [*rows, {"email": "nameless@visited.example"}]})
    identities = [{"type": "email", "value": "twin@visited.example"}]
    twin = _user(v, "Twin", identities=identities, organization={"name": "Visited"})
    v("PUT", f"users/{twin}/merge", {"user": {"id": vera}})
    gone = [_user(v, f"Gone {number}") for number in range(3)]
    v.job("PUT", "users/update_many", {"user": {"notes": "n"}}, ids=",".join(map(str, gone)))
    erased = gone.pop()
    v("DELETE", f"users/{erased}")
    v.get(f"deleted_users/{erased}")
    v("DELETE", f"deleted_users/{erased}")
    v.job("DELETE", "users/destroy_many", ids=",".join(map(str, [*gone, 1])))


def places(v: Visitor) -> None:
    """Identities and memberships of one person."""
    first, second = _organization(v, "First place"), _organization(v, "Second place")
    person = _user(v, "Placed", email="placed@visited.example", organization_id=first)
    v.get(f"users/{person}/organizations")
    body = {"organization_membership": {"user_id": person, "organization_id": second}}
    made = v("POST", f"users/{person}/organization_memberships", body)["organization_membership"]["id"]
    v.pages("organization_memberships")
    v.get(f"organization_memberships/{made}")
    v.get(f"users/{person}/organization_memberships/{made}")
    v("PUT", f"users/{person}/organizations/{second}/make_default")
    v("DELETE", f"users/{person}/organization_memberships/{made}")
    again = v("POST", "organization_memberships", body)["organization_membership"]["id"]
    v.job("DELETE", "organization_memberships/destroy_many", ids=str(again))
    body = {"identity": {"type": "email", "value": "placed2@visited.example", "verified": False}}
    one = f"users/{person}/identities/{v('POST', f'users/{person}/identities', body)['identity']['id']}"
    v.get(one)
    v("PUT", one, {"identity": {"verified": True}})
    v("PUT", f"{one}/verify")
    v("PUT", f"{one}/request_verification")
    v("DELETE", one)


def tickets(v: Visitor) -> None:
    """Made, changed and deleted, one by one and in bulk, with nested bodies."""
    v.pages("tickets")
    comment = {"body": "It leaks.", "public": True}
    requester = {"name": "Tia", "email": "tia@visited.example"}
    fields = [{"id": 360000660001, "value": "x"}]
    body = {"subject": "Pump", "comment": comment, "requester": requester, "priority": "high", "custom_fields": fields}
    made = v("POST", "tickets", {"ticket": body})["ticket"]
    v.get(f"users/{made['requester_id']}/tickets/requested")
    rows = [{"subject": f"Bulk {number}", "comment": comment} for number in range(3)]
    done = v.job("POST", "tickets/create_many", {"tickets": [*rows, {"subject": "Nothing said"}]})
    ids = [row["id"] for row in done["results"] if "id" in row]
    v.job("PUT", "tickets/update_many", {"ticket": {"status": "solved"}}, ids=",".join(map(str, ids)))
    v.job("PUT", "tickets/update_many", {"tickets": [{"id": ids[0], "tags": ["v"]}, {"id": 99_999_999}]})
    v.job("DELETE", "tickets/destroy_many", ids=",".join(map(str, ids)))
    v("DELETE", f"tickets/{made['id']}")


def searches(v: Visitor) -> None:
    """By words, by terms, counted and exported."""
    v.get("search", query="type:ticket status:solved", sort_by="updated_at", sort_order="asc")
    v.get("search", query="visited")
    v.get("search/count", query="type:user role:end-user")
    for kind in ("ticket", "user", "organization"):
        v.get("search/export", query="created>2000-01-01", **{"filter[type]": kind, "page[size]": 5})


def exports(v: Visitor) -> None:
    """The exports by time, and the samples."""
    since = int(time.time()) - 200 * 86_400
    for name in ("tickets", "users", "ticket_metric_events"):
        v.get(f"incremental/{name}", start_time=since)
    for name in ("tickets", "users", "organizations", "ticket_events"):
        v.get(f"incremental/{name}/sample", start_time=since)
    v.get("incremental/ticket_events", start_time=since, include="comment_events")


def definitions(v: Visitor) -> None:
    """Fields and triggers one by one, and what a trigger may be made of."""
    for noun in ("organization_field", "user_field"):
        v.get(f"{noun}s/{v.get(f'{noun}s')[f'{noun}s'][0]['id']}")
    hook = {
        "name": "Visited", "endpoint": "http://127.0.0.1:9/", "http_method": "POST", "request_format": "json",
        "status": "active", "subscriptions": ["conditional_ticket_events"],
    }  # fmt: skip
    made = v("POST", "webhooks", {"webhook": hook})["webhook"]["id"]
    v("PUT", f"webhooks/{made}", {"webhook": {**hook, "name": "Visited again"}})
    v.get("triggers/definitions")
    conditions = {
        "all": [{"field": "status", "operator": "value", "value": "solved"}],
        "any": [{"field": "current_tags", "operator": "includes", "value": "v"}],
    }
    action = {"field": "notification_webhook", "value": [made, "{}"]}
    trigger = {"title": "Visited", "active": False, "conditions": conditions, "actions": [action]}
    shown = v("POST", "triggers", {"trigger": trigger})["trigger"]
    v.get(f"triggers/{shown['id']}")
    v("DELETE", f"triggers/{shown['id']}")


def deliveries(v: Visitor) -> None:
    """What a webhook's log says of a delivery that nobody took."""
    hook = {
        "name": "Logged", "endpoint": "http://127.0.0.1:9/", "http_method": "POST", "request_format": "json",
        "status": "active", "subscriptions": ["zen:event-type:ticket.created"],
    }  # fmt: skip
    made = v("POST", "webhooks", {"webhook": hook})["webhook"]["id"]
    v("POST", "tickets", {"ticket": {"subject": "Logged", "comment": {"body": "Please help."}}})
    until = time.monotonic() + 5
    while not (seen := v.get(f"webhooks/{made}/invocations")["invocations"]) and time.monotonic() < until:
        time.sleep(0.02)
    v.get(f"webhooks/{made}/invocations/{seen[0]['id']}/attempts")


SCENES = (organizations, users, places, tickets, searches, exports, definitions, deliveries)
