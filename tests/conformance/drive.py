"""Calls every method of the client against a sandbox and keeps each request with its answer.

The calls go over a real socket, with a token that our own OAuth code asked for. Nothing here judges.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from airflow_provider_qadzd.errors import SetAside
from airflow_provider_qadzd.records import Token
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync.webhooks import EVENT_TYPES
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.oauth import (
    OAuthClient,
    ZendeskAuth,
    authorization_url,
    new_state,
    new_verifier,
)
from airflow_provider_qadzd.zendesk.pace import Pace
from airflow_provider_qadzd.zendesk.tokens import TokenSource
from airflow_provider_qadzd.zendesk.wire import JobStatus, NotFound
from tests.zendesk.fakes import FakeClock, MemoryBudget, MemoryTokens

CALLBACK = "http://127.0.0.1:9/callback"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as it was sent, and its answer."""

    request: requests.PreparedRequest
    answer: requests.Response


@dataclass
class Record:
    """What went over the wire, and which methods have been called."""

    exchanges: list[Exchange] = field(default_factory=list)
    called: set[str] = field(default_factory=set)


class Recorder(HTTPAdapter):
    """Sends as usual, and keeps what was sent and what came back."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self._record = record

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        answer = super().send(request, *args, **kwargs)
        _ = answer.content
        self._record.exchanges.append(Exchange(request.copy(), answer))
        return answer


class Watched:
    """A group of the client's methods that notes which of them are called."""

    def __init__(self, name: str, group: object, record: Record) -> None:
        self._name, self._group, self._record = name, group, record

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return partial(self._call, f"{self._name}.{method}", getattr(self._group, method))

    def _call(self, caller: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._record.called.add(caller)
        return method(*args, **kwargs)


class Driver:
    """The client's groups by name, each watched."""

    def __init__(self, client: ZendeskClient, record: Record, sandbox: Sandbox) -> None:
        self.sandbox, self._record = sandbox, record
        ours = {name: group for name, group in vars(client).items() if not name.startswith("_")}
        self._groups = {name: group for name, group in ours.items() if not isinstance(group, str | int | float)}

    def __getattr__(self, name: str) -> Any:
        return Watched(name, self._groups[name], self._record)

    def methods(self) -> set[str]:
        """Every public method of every group."""
        return {
            f"{name}.{method}"
            for name, group in self._groups.items()
            for method in dir(group)
            if not method.startswith("_") and callable(getattr(group, method))
        }

    def ended(self, job: JobStatus) -> None:
        """Look at the job, and at all jobs, until it has ended."""
        for _ in range(200):
            [seen] = self.jobs.show_many([job.id])
            if seen.done:
                return
            self.jobs.list_open()
            self.sandbox.post_control("clock", {"advance": 1})
        raise RuntimeError(f"the job {job.id} does not end")


def drive(sandbox: Sandbox) -> tuple[Record, set[str]]:
    """Everything that went over the wire, and the methods that were not called."""
    record = Record()
    with _connected(sandbox, record) as driver:
        for scene in SCENES:
            scene(driver)
        return record, driver.methods() - record.called


@contextmanager
def _connected(sandbox: Sandbox, record: Record) -> Iterator[Driver]:
    clock = FakeClock(time.time())
    machine = OAuthClient(sandbox.url, "sandbox", "sandbox")
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", Recorder(record))
        _consent(sandbox, session, clock)
        session.auth = ZendeskAuth(sandbox.url, TokenSource("machine", machine, MemoryTokens(clock), session, clock))
        client = ZendeskClient(sandbox.url, session, Pace(MemoryBudget(clock), clock), clock)
        yield Driver(client, record, sandbox)


def _consent(sandbox: Sandbox, session: requests.Session, clock: FakeClock) -> None:
    """A token by consent, exchanged and then renewed."""
    person = OAuthClient(sandbox.url, "sandbox", "sandbox", "read write", CALLBACK, "authorization_code")
    verifier = new_verifier()
    page = requests.get(authorization_url(person, new_state(), verifier), allow_redirects=False, timeout=10)
    code = page.headers["Location"].split("code=")[1].split("&")[0]
    store = MemoryTokens(clock)
    first: Token = TokenSource("person", person, store, session, clock).exchange_code(code, verifier)
    TokenSource("person", person, store, session, clock).access_token(refused=first.access)


# -- scenes: each leaves behind what the later ones need --------------------------------------------------------------


def custom_fields(z: Driver) -> None:
    """Our own fields, so that later bodies may carry them."""
    z.fields.create_organization_field({"key": "qad_customer", "title": "QAD customer", "type": "text"})
    z.fields.create_user_field({"key": "qad_contact", "title": "QAD contact", "type": "text"})
    z.fields.organization_fields()
    z.fields.user_fields()
    passing = {"key": "qad_passing", "title": "Passing", "type": "text"}
    on_organizations, on_users = z.fields.create_organization_field(passing), z.fields.create_user_field(passing)
    z.fields.update_organization_field(on_organizations["id"], {"active": False})
    z.fields.update_user_field(on_users["id"], {"active": False})
    z.fields.delete_organization_field(on_organizations["id"])
    z.fields.delete_user_field(on_users["id"])


def organizations(z: Driver) -> None:
    """Made, found, changed: one by one and in bulk, with rows that fail."""
    body = {"name": "Alder Ltd", "external_id": "T-1", "tags": ["qad"], "organization_fields.qad_customer": "T-1"}
    made = z.organizations.create(body)
    with suppress(SetAside):
        z.organizations.create({"name": "Alder Ltd"})
    z.organizations.show(made["id"])
    with suppress(NotFound):
        z.organizations.show(1)
    z.organizations.merges(made["id"])
    z.organizations.search(name="Alder Ltd")
    z.organizations.search(external_id="T-1")
    z.organizations.update(made["id"], {"name": "Alder Limited", "organization_fields.qad_customer": None})
    rows = [{"name": f"Bulk {n}", "external_id": f"B-{n}", "organization_fields.qad_customer": "B"} for n in (1, 2, 2)]
    z.ended(z.organizations.create_many(rows))
    found = z.organizations.show_many(external_ids=["B-1", "B-2"])
    z.organizations.show_many(ids=[row["id"] for row in found])
    changes = [{"id": row["id"], "name": row["name"] + " & Sons"} for row in found]
    z.ended(z.organizations.update_many([*changes, {"id": 1, "name": "Nobody"}]))


def users(z: Driver) -> None:
    """The same for users."""
    z.users.me()
    body = {
        "name": "Una Reyes", "email": "una@alder.example", "external_id": "U-1", "phone": "+44 113 496 0000",
        "user_fields.qad_contact": "U-1",
    }  # fmt: skip
    made = z.users.create(body)
    with suppress(SetAside):
        z.users.create({"name": "Una again", "email": "una@alder.example"})
    z.users.show(made["id"])
    with suppress(NotFound):
        z.users.show_deleted(made["id"])
    z.users.search(external_id="U-1")
    z.users.search(email="una@alder.example")
    z.users.search(query="role:end-user")
    z.users.update(made["id"], {"name": "Una M. Reyes", "user_fields.qad_contact": None})
    rows = [{"name": f"Person {n}", "email": f"p{n}@bulk.example", "external_id": f"P-{n}"} for n in (1, 2, 2)]
    z.ended(z.users.create_many(rows))
    found = z.users.show_many(external_ids=["P-1", "P-2", "U-1"])
    z.users.show_many(ids=[row["id"] for row in found])
    changes = [{"id": row["id"], "name": row["name"] + " Jr", "user_fields.qad_contact": "x"} for row in found]
    z.ended(z.users.update_many([*changes, {"id": 1, "name": "Nobody"}]))


def identities(z: Driver) -> None:
    """A second email becomes the primary one."""
    [user] = z.users.search(external_id="U-1")
    second = z.identities.create(user["id"], "una.reyes@alder.example")
    with suppress(SetAside):
        z.identities.create(user["id"], "p1@bulk.example")
    z.identities.make_primary(user["id"], second["id"])
    z.identities.create(user["id"], "una.first@alder.example", primary=True)
    z.identities.of_user(user["id"])


def memberships(z: Driver) -> None:
    """A user in several organizations."""
    homes = z.organizations.show_many(external_ids=["T-1", "B-1", "B-2"])
    people = z.users.show_many(external_ids=["U-1", "P-1", "P-2"])
    user = people[0]["id"]
    z.memberships.create(user, homes[0]["id"])
    second = z.memberships.create(user, homes[1]["id"])
    with suppress(SetAside):
        z.memberships.create(user, homes[1]["id"])
    pairs = [(person["id"], homes[2]["id"]) for person in people]
    z.ended(z.memberships.create_many([*pairs, pairs[0]]))
    z.memberships.make_default(user, second["id"])
    z.memberships.of_user(user)
    z.memberships.of_organization(homes[2]["id"])
    z.memberships.delete(second["id"])


def tickets(z: Driver) -> None:
    """Seeded tickets, one of each status, and one changed."""
    page = z.exports.tickets(start_time=_past(90))
    by_status = {row["status"]: row["id"] for row in page.rows}
    alive = [ticket_id for status, ticket_id in by_status.items() if status != "deleted"]
    z.tickets.show_many(list(by_status.values()))
    for ticket_id in alive:
        z.tickets.show(ticket_id)
    z.tickets.requested_by(page.rows[0]["requester_id"])
    z.tickets.update(by_status["open"], {"status": "solved", "comment": {"body": "Done.", "public": False}})
    z.tickets.update(by_status["pending"], {"organization_id": None, "tags": ["qad"], "priority": "high"})
    z.tickets.update_many([{"id": by_status["open"], "organization_id": None}])
    z.exports.tickets(cursor=page.cursor)


def exports(z: Driver) -> None:
    """Every export, from its start to its end and once beyond."""
    page = z.exports.users(start_time=_past(120))
    z.exports.users(cursor=page.cursor)
    z.exports.organizations(start_time=_past(120))
    z.exports.ticket_events(start_time=_past(90))


def webhooks(z: Driver) -> None:
    """The life of a webhook."""
    endpoint = f"{z.sandbox.url}/_sandbox/stats"
    body = {
        "name": "Conformance", "endpoint": endpoint, "http_method": "POST", "request_format": "json",
        "status": "active", "subscriptions": list(EVENT_TYPES),
    }  # fmt: skip
    made = z.webhooks.create(body)
    z.webhooks.list()
    z.webhooks.show(made["id"])
    z.webhooks.update(made["id"], {"status": "inactive"})
    z.webhooks.signing_secret(made["id"])
    z.webhooks.reset_signing_secret(made["id"])
    z.webhooks.test(made["id"], '{"id": "test"}')
    z.webhooks.delete(made["id"])


def triggers(z: Driver) -> None:
    """The life of a trigger that calls a webhook."""
    hook = {
        "name": "For a trigger", "endpoint": f"{z.sandbox.url}/_sandbox/stats", "http_method": "POST",
        "request_format": "json", "status": "active", "subscriptions": ["conditional_ticket_events"],
    }  # fmt: skip
    webhook_id = z.webhooks.create(hook)["id"]
    call = {"field": "notification_webhook", "value": [webhook_id, '{"kind": "solved"}']}
    conditions = {"all": [{"field": "status", "operator": "is", "value": "solved"}], "any": []}
    made = z.triggers.create({"title": "Tell us", "conditions": conditions, "actions": [call]})
    z.triggers.list()
    z.triggers.update(made["id"], {"title": "Tell us", "conditions": conditions, "actions": [call]})
    z.triggers.delete(made["id"])


def jobs(z: Driver) -> None:
    """Jobs that are queued and under way, seen alone and in the list of all."""
    z.sandbox.post_control("settings", {"job_delay": 9.0})
    z.ended(z.organizations.create_many([{"name": "Slowly made"}]))
    z.sandbox.post_control("settings", {"job_delay": 0.0})


def token(z: Driver) -> None:
    """The token in use, and its end."""
    z.tokens.current()
    z.tokens.revoke_current()


def _past(days: int) -> float:
    return time.time() - days * 86_400


SCENES = (
    custom_fields, organizations, users, identities, memberships, tickets, exports, webhooks, triggers, jobs, token,
)  # fmt: skip
