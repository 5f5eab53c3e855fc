"""Each call once against the sandbox, over a real connection, with a real OAuth token."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from airflow_provider_qadzd.errors import FixFirst, SetAside, TryLater
from airflow_provider_qadzd.records import Lease, SystemClock, Token
from airflow_provider_qadzd.sandbox import Sandbox, running
from airflow_provider_qadzd.zendesk import oauth
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.connection import base_url_of
from airflow_provider_qadzd.zendesk.oauth import ApiToken, OAuthClient, ZendeskAuth
from airflow_provider_qadzd.zendesk.pace import Pace
from airflow_provider_qadzd.zendesk.tokens import TokenSource
from airflow_provider_qadzd.zendesk.webhook import Refused, verify
from airflow_provider_qadzd.zendesk.wire import BULK_IMPORT_OFF, MISSING_SCOPE, JobStatus, NotFound, flatten
from tests.zendesk.fakes import FakeClock, MemoryBudget, MemoryTokens


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for the module; each test makes what it changes."""
    with running(customers=120, contacts=130, tickets=60, seed=7) as served:
        served.post_control("limits", {"incremental_per_minute": 10_000, "requests_per_minute": 100_000})
        yield served


@contextmanager
def connected(
    sandbox: Sandbox, credentials: oauth.Credentials | None = None, scope: str = "read write",
    timeout: tuple[float, float] = (10.0, 60.0),
) -> Iterator[ZendeskClient]:  # fmt: skip
    """A client as the hooks make it: one session, its auth, a pace."""
    url, clock = base_url_of(sandbox.url), FakeClock(time.time())
    with requests.Session() as session:
        session.trust_env = False
        machine = OAuthClient(url, "sandbox", "sandbox", scope)
        tokens = credentials or TokenSource("zendesk", machine, MemoryTokens(clock), session, SystemClock())
        session.auth = ZendeskAuth(url, tokens)
        yield ZendeskClient(url, session, Pace(MemoryBudget(clock), clock), clock, timeout=timeout)


@pytest.fixture
def zendesk(sandbox: Sandbox) -> Iterator[ZendeskClient]:
    """A client with a token of its own."""
    with connected(sandbox) as client:
        yield client


def finished(zendesk: ZendeskClient, job: JobStatus) -> JobStatus:
    """The job once it has ended."""
    for _ in range(100):
        [seen] = zendesk.jobs.show_many([job.id])
        if seen.done:
            return seen
        time.sleep(0.05)
    raise AssertionError(f"{job.id} does not end")


def test_organizations(zendesk: ZendeskClient) -> None:
    """Created, found in every way, changed, and refused a second time."""
    made = zendesk.organizations.create({"name": "Alder Ltd", "external_id": "T-1", "tags": ["qad"]})
    assert zendesk.organizations.show(made["id"])["name"] == "Alder Ltd"
    assert [row["id"] for row in zendesk.organizations.show_many(ids=[made["id"], 1])] == [made["id"]]
    assert [row["id"] for row in zendesk.organizations.show_many(external_ids=["t-1", "T-none"])] == [made["id"]]
    assert [row["id"] for row in zendesk.organizations.search(name="alder ltd")] == [made["id"]]
    assert [row["id"] for row in zendesk.organizations.search(external_id="T-1")] == [made["id"]]
    assert zendesk.organizations.update(made["id"], {"notes": "seen"})["notes"] == "seen"
    with pytest.raises(SetAside) as refusal:
        zendesk.organizations.create({"name": "alder LTD"})
    assert refusal.value.facts.details == (("name", "DuplicateValue"),)
    with pytest.raises(NotFound):
        zendesk.organizations.show(1)


def test_an_external_id_with_a_comma_is_found(zendesk: ZendeskClient) -> None:
    """The key is stored encoded, and asked for either way it is one key."""
    zendesk.organizations.create({"name": "Comma Ltd", "external_id": "A%2CB"})
    for asked in ("A,B", "A%2CB"):
        assert [row["name"] for row in zendesk.organizations.show_many(external_ids=[asked])] == ["Comma Ltd"]


def test_many_organizations(zendesk: ZendeskClient) -> None:
    """Jobs are read to the end; created rows are found by external id, since the job does not tell it."""
    keys = [f"M-{number}" for number in range(100)]
    job = zendesk.organizations.create_many({"name": f"Many {key}", "external_id": key} for key in keys)
    done = finished(zendesk, job)
    assert (done.status, len(done.results), {row.ok for row in done.results}) == ("completed", 100, {True})
    made = zendesk.organizations.show_many(external_ids=keys)
    assert {row["id"] for row in made} == {row.id for row in done.results}
    changes = [{"id": row["id"], "details": "d"} for row in made[:2]] + [{"id": 1, "details": "d"}]
    changed = finished(zendesk, zendesk.organizations.update_many(changes))
    assert [row.ok for row in changed.results].count(False) == 1
    assert zendesk.organizations.show(made[0]["id"])["details"] == "d"


def test_users_and_their_identities(zendesk: ZendeskClient, sandbox: Sandbox) -> None:
    """Created without mail, found in every way; another email is secondary until it is made primary."""
    sandbox.post_control("reset-stats")
    made = zendesk.users.create({"name": "Ana", "email": "ana@example.com", "external_id": "U-1"})
    assert zendesk.users.show(made["id"])["email"] == "ana@example.com"
    assert [row["id"] for row in zendesk.users.show_many(ids=[made["id"]])] == [made["id"]]
    assert [row["id"] for row in zendesk.users.show_many(external_ids=["u-1"])] == [made["id"]]
    assert [row["id"] for row in zendesk.users.search(email="ana@example.com")] == [made["id"]]
    assert [row["id"] for row in zendesk.users.search(external_id="U-1")] == [made["id"]]
    assert [row["id"] for row in zendesk.users.search(query="ana@example.com")] == [made["id"]]
    assert zendesk.users.update(made["id"], {"phone": "+44 1"})["phone"] == "+44 1"
    second = zendesk.identities.create(made["id"], "ana.b@example.com")
    assert {row["value"] for row in zendesk.identities.of_user(made["id"])} == {"ana@example.com", "ana.b@example.com"}
    after = zendesk.identities.make_primary(made["id"], second["id"])
    assert [row["value"] for row in after if row["primary"]] == ["ana.b@example.com"]
    with pytest.raises(SetAside) as refusal:
        zendesk.identities.create(made["id"], "ana@example.com")
    assert refusal.value.reason == "duplicate"
    assert sandbox.get_control("stats")["verification_mails"] == 0


def test_many_users(zendesk: ZendeskClient) -> None:
    """The job tells external id and email of what it made; a failed row tells its error."""
    users = [{"name": f"N{number}", "external_id": f"MU-{number}"} for number in range(3)]
    done = finished(zendesk, zendesk.users.create_many(users))
    assert {row.external_id for row in done.results} == {"MU-0", "MU-1", "MU-2"}
    changed = finished(zendesk, zendesk.users.update_many([{"id": done.results[0].id, "notes": "n"}]))
    assert [row.ok for row in changed.results] == [True]


def test_bulk_import_that_is_off_has_a_code(sandbox: Sandbox, zendesk: ZendeskClient) -> None:
    """The caller can tell it from another 403, and go on singly."""
    sandbox.post_control("settings", {"bulk_import": False})
    with pytest.raises(FixFirst) as refusal:
        zendesk.users.create_many([{"name": "x"}])
    sandbox.post_control("settings", {"bulk_import": True})
    assert refusal.value.facts.code == BULK_IMPORT_OFF


def test_memberships(zendesk: ZendeskClient) -> None:
    """Added singly and by job, listed from both sides, the default moved, one ended."""
    user = zendesk.users.create({"name": "Member"})["id"]
    homes = [zendesk.organizations.create({"name": f"Home {number}"})["id"] for number in range(2)]
    first = zendesk.memberships.create(user, homes[0])
    job = finished(zendesk, zendesk.memberships.create_many([(user, homes[1])]))
    assert [row.ok for row in job.results] == [True]
    assert {row["organization_id"] for row in zendesk.memberships.of_user(user)} == set(homes)
    [second] = zendesk.memberships.of_organization(homes[1])
    after = zendesk.memberships.make_default(user, second["id"])
    assert [row["organization_id"] for row in after if row["default"]] == [homes[1]]
    with pytest.raises(SetAside):
        zendesk.memberships.create(user, homes[0])
    zendesk.memberships.delete(first["id"])
    with pytest.raises(NotFound):
        zendesk.memberships.delete(first["id"])


def test_a_long_list_is_read_page_by_page(zendesk: ZendeskClient) -> None:
    """More members than fit on a page come back once each."""
    home = zendesk.organizations.create({"name": "Crowded"})["id"]
    done = finished(zendesk, zendesk.users.create_many([{"name": f"C{number}"} for number in range(100)]))
    extra = zendesk.users.create({"name": "C100"})["id"]
    users = [row.id for row in done.results if row.id] + [extra]
    finished(zendesk, zendesk.memberships.create_many([(user, home) for user in users[:100]]))
    zendesk.memberships.create(extra, home)
    assert sorted(row["user_id"] for row in zendesk.memberships.of_organization(home)) == sorted(users)


def test_jobs_that_have_not_ended_are_listed(sandbox: Sandbox, zendesk: ZendeskClient) -> None:
    """Open jobs count against the account's thirty; one that is not known is left out."""
    sandbox.post_control("settings", {"job_delay": 3600})
    job = zendesk.organizations.create_many([{"name": "Slow"}])
    assert job.id in {seen.id for seen in zendesk.jobs.list_open()}
    assert [seen.id for seen in zendesk.jobs.show_many([job.id, "V3-unknown"])] == [job.id]
    sandbox.post_control("settings", {"job_delay": 0})


def test_exports(zendesk: ZendeskClient, sandbox: Sandbox) -> None:
    """Tickets and users by cursor, organizations and events by time; each cursor resumes where it ended."""
    state = sandbox.get_control("state")
    page = zendesk.exports.tickets(start_time=0)
    assert len({row["id"] for row in page.rows}) == state["counts"]["tickets"]
    assert page.end_of_stream
    assert zendesk.exports.tickets(cursor=page.cursor).rows == ()
    users = zendesk.exports.users(start_time=0)
    assert users.rows
    assert zendesk.exports.users(cursor=users.cursor).end_of_stream
    organizations = zendesk.exports.organizations(start_time=0)
    assert organizations.rows
    assert int(organizations.cursor) > 0
    events = zendesk.exports.ticket_events(start_time=0)
    assert {"ticket_id", "child_events"} <= set(events.rows[0])


def test_a_start_time_that_is_too_recent_asks_for_patience(zendesk: ZendeskClient) -> None:
    """It passes by itself, so it is not an error that a person must look at."""
    with pytest.raises(TryLater) as error:
        zendesk.exports.tickets(start_time=time.time())
    assert error.value.wait == 60.0


def test_tickets(zendesk: ZendeskClient, sandbox: Sandbox) -> None:
    """Shown singly and many at once, and tied to an organization."""
    ids = [row["id"] for row in sandbox.get_control("state")["tickets"] if row["status"] == "open"][:3]
    assert zendesk.tickets.show(ids[0])["id"] == ids[0]
    assert {row["id"] for row in zendesk.tickets.show_many([*ids, 1])} >= set(ids)
    home = zendesk.organizations.create({"name": "Tied"})["id"]
    member = zendesk.tickets.show(ids[0])["requester_id"]
    zendesk.memberships.create(member, home)
    assert zendesk.tickets.update(ids[0], {"organization_id": home})["organization_id"] == home
    with pytest.raises(NotFound):
        zendesk.tickets.show(987654321)


class Receiver(BaseHTTPRequestHandler):
    """Verifies what the sandbox delivers, as our receiver does."""

    secret = ""
    seen: list[object]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.seen.append(verify(dict(self.headers.items()), body, [self.secret], time.time(), 600))
        except Refused as refusal:
            self.seen.append(refusal.reason)
        self.send_response(202)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[Receiver]]]:
    """An address that verifies deliveries, and what came in."""
    handler = type("OneReceiver", (Receiver,), {"seen": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_webhooks(zendesk: ZendeskClient, sandbox: Sandbox, receiver: tuple[str, type[Receiver]]) -> None:
    """Created, listed, its secret fetched and changed; what it delivers is well signed by that secret."""
    endpoint, handler = receiver
    wanted = {
        "name": "qadzd",
        "endpoint": endpoint,
        "http_method": "POST",
        "request_format": "json",
        "status": "active",
        "subscriptions": ["zen:event-type:ticket.status_changed", "zen:event-type:ticket.created"],
    }
    made = zendesk.webhooks.create(wanted)
    assert [row["id"] for row in zendesk.webhooks.list()] == [made["id"]]
    first = zendesk.webhooks.signing_secret(made["id"])
    assert zendesk.webhooks.reset_signing_secret(made["id"]) != first
    handler.secret = zendesk.webhooks.signing_secret(made["id"])
    assert zendesk.webhooks.test(made["id"], '{"id": "t"}')["status"] == 202
    ticket = sandbox.post_control("tickets", {"subject": "x", "wait": True})["ticket"]["id"]
    sandbox.post_control("tickets", {"id": ticket, "status": "solved", "wait": True})
    kinds = [(seen.kind, seen.ticket_id) for seen in handler.seen]  # type: ignore[attr-defined]
    assert kinds == [("unknown", None), ("created", ticket), ("solved", ticket)]
    zendesk.webhooks.update(made["id"], {"status": "inactive"})
    assert zendesk.webhooks.show(made["id"])["status"] == "inactive"
    zendesk.webhooks.delete(made["id"])
    with pytest.raises(NotFound):
        zendesk.webhooks.show(made["id"])


def test_a_trigger_fires_a_webhook(
    zendesk: ZendeskClient, sandbox: Sandbox, receiver: tuple[str, type[Receiver]]
) -> None:
    """The trigger's body carries a literal kind and the ticket's id."""
    endpoint, handler = receiver
    hook = zendesk.webhooks.create(
        {"name": "by trigger", "endpoint": endpoint, "subscriptions": ["conditional_ticket_events"]}
    )
    handler.secret = zendesk.webhooks.signing_secret(hook["id"])
    body = json.dumps({"kind": "solved", "ticket_id": "{{ticket.id}}"})
    made = zendesk.triggers.create(
        {
            "title": "qadzd solved",
            "conditions": {"all": [{"field": "status", "operator": "value", "value": "solved"}], "any": []},
            "actions": [{"field": "notification_webhook", "value": [hook["id"], body]}],
        }
    )
    assert made["id"] in {row["id"] for row in zendesk.triggers.list()}
    ticket = sandbox.post_control("tickets", {"subject": "x", "wait": True})["ticket"]["id"]
    sandbox.post_control("tickets", {"id": ticket, "status": "solved", "wait": True})
    assert [(seen.kind, seen.ticket_id) for seen in handler.seen] == [("solved", ticket)]  # type: ignore[attr-defined]
    assert zendesk.triggers.update(made["id"], {"active": False})["active"] is False
    zendesk.triggers.delete(made["id"])
    assert made["id"] not in {row["id"] for row in zendesk.triggers.list()}
    zendesk.webhooks.delete(hook["id"])


def test_fields(zendesk: ZendeskClient) -> None:
    """A custom field is created once and then takes values."""
    zendesk.fields.create_organization_field({"key": "qad_test", "type": "text", "title": "QAD test"})
    zendesk.fields.create_user_field({"key": "qad_test", "type": "text", "title": "QAD test"})
    assert "qad_test" in {row["key"] for row in zendesk.fields.organization_fields()}
    assert "qad_test" in {row["key"] for row in zendesk.fields.user_fields()}
    wanted = {"name": "Fielded", "organization_fields.qad_test": "v"}
    made = zendesk.organizations.create(wanted)
    assert flatten(zendesk.organizations.show(made["id"]), wanted) == wanted


def test_tokens(sandbox: Sandbox) -> None:
    """The token tells its scopes; once revoked, the next call asks for another by itself."""
    with connected(sandbox) as zendesk:
        assert zendesk.tokens.current()["scopes"] == ["read", "write"]
        zendesk.tokens.revoke_current()
        assert zendesk.users.me()["role"] == "admin"


def test_a_lapsed_token_is_replaced_in_passing(sandbox: Sandbox, zendesk: ZendeskClient) -> None:
    """The 401 is not seen by the caller, also on a POST."""
    zendesk.users.me()
    sandbox.post_control("tokens", {"expire": "access"})
    assert zendesk.organizations.create({"name": "After a lapse"})["id"]


def test_a_scope_that_is_missing_has_a_code(sandbox: Sandbox) -> None:
    """A token for reading cannot write, and the error says that it is the scope."""
    with connected(sandbox, scope="read") as zendesk, pytest.raises(FixFirst) as refusal:
        zendesk.organizations.create({"name": "x"})
    assert refusal.value.facts.code == MISSING_SCOPE


def test_a_bad_api_token_is_found_out(sandbox: Sandbox) -> None:
    """Zendesk shows `users/me` to anybody, as nobody."""
    with connected(sandbox, ApiToken("a@b.co", "wrong")) as zendesk:
        with pytest.raises(FixFirst):
            zendesk.users.me()
        with pytest.raises(FixFirst):
            zendesk.organizations.show(1)


def test_consent_code_and_rotation(sandbox: Sandbox) -> None:
    """The browser's way: consent, code with PKCE, first token, then a refresh that rotates."""
    person = OAuthClient(
        base_url_of(sandbox.url), "sandbox", "sandbox", "read write", "http://localhost/back", "authorization_code"
    )
    clock, verifier, state = FakeClock(time.time()), oauth.new_verifier(), oauth.new_state()
    store = MemoryTokens(clock)
    with requests.Session() as session:
        session.trust_env = False
        consent = session.get(oauth.authorization_url(person, state, verifier), allow_redirects=False, timeout=5)
        back = parse_qs(urlsplit(consent.headers["Location"]).query)
        assert back["state"] == [state]
        source = TokenSource("zendesk", person, store, session, clock)
        first = source.exchange_code(back["code"][0], verifier)
        clock.now += 1790
        assert source.access_token() != first.access
        assert store.token is not None
        assert store.token.refresh not in (None, first.refresh)
        with pytest.raises(FixFirst):
            source.exchange_code(back["code"][0], verifier)


def test_eight_at_once_cost_one_refresh(sandbox: Sandbox) -> None:
    """Whoever has the lease refreshes; the others wait for the store, and all get the same token."""
    url, clock, saved = base_url_of(sandbox.url), FakeClock(time.time()), threading.Event()
    person = OAuthClient(url, "sandbox", "sandbox", "read write", "http://localhost/back", "authorization_code")

    class Telling(MemoryTokens):
        def save(self, lease: Lease, token: Token) -> bool:
            done = super().save(lease, token)
            saved.set()
            return done

    def refresh(_: int) -> str:
        with requests.Session() as session:
            session.trust_env = False
            return TokenSource("zendesk", person, store, session, clock).access_token()

    store = Telling(clock, consented(person))
    store.token = replace(store.token, expires_at=0.0) if store.token else None
    clock.while_asleep = lambda: None if saved.wait(10) else pytest.fail("nobody refreshed")
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(refresh, range(8)))
    assert (len(tokens), len(store.saved)) == (1, 1)


def consented(person: OAuthClient) -> Token:
    """The first token, by way of the consent page."""
    verifier = oauth.new_verifier()
    with requests.Session() as session:
        session.trust_env = False
        consent = session.get(oauth.authorization_url(person, "st", verifier), allow_redirects=False, timeout=5)
        [code] = parse_qs(urlsplit(consent.headers["Location"]).query)["code"]
        return TokenSource("zendesk", person, MemoryTokens(FakeClock()), session).exchange_code(code, verifier)


def test_a_refresh_token_that_was_spent_elsewhere_means_connect_again(sandbox: Sandbox) -> None:
    """Zendesk refuses it for good."""
    person = OAuthClient(base_url_of(sandbox.url), "sandbox", "sandbox", grant="authorization_code")
    store = MemoryTokens(FakeClock(), Token("old", "spent", 0.0, version=3))
    with requests.Session() as session:
        session.trust_env = False
        with pytest.raises(FixFirst, match="airflow qadzd connect"):
            TokenSource("zendesk", person, store, session, FakeClock()).access_token()
    assert store.token is not None
    assert store.token.state == "connect_again"


def left_alone(url: str, call: Callable[[ZendeskClient], object]) -> tuple[bool, int]:
    """Whether the call may have been done, and how often it was waited for, where Zendesk does not answer."""
    clock = FakeClock()
    with requests.Session() as session:
        session.trust_env = False
        zendesk = ZendeskClient(url, session, Pace(MemoryBudget(clock), clock), clock)
        with pytest.raises(TryLater) as error:
            call(zendesk)
    return error.value.unanswered, len(clock.slept)


READ = pytest.param(lambda zendesk: zendesk.users.show(1), id="read")
POST = pytest.param(lambda zendesk: zendesk.users.create({"name": "x"}), id="post")


@pytest.mark.parametrize("call", [READ, POST])
def test_where_nobody_listens_nothing_was_done(call: Callable[[ZendeskClient], object]) -> None:
    """A refused connection is told apart from a lost answer, also for a POST."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert left_alone(url, call) == (False, 3)


@pytest.fixture
def hanging_up() -> Iterator[str]:
    """A server that takes a request and hangs up without a word."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                taken, _ = listening.accept()
            except OSError:
                return
            taken.recv(65536)
            taken.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def test_where_the_connection_is_dropped_a_read_is_repeated(hanging_up: str) -> None:
    """Four attempts, three waits, and nothing can have been done."""
    assert left_alone(hanging_up, lambda zendesk: zendesk.users.show(1)) == (False, 3)


def test_where_the_connection_is_dropped_a_post_is_open(hanging_up: str) -> None:
    """One attempt: it may have been done."""
    assert left_alone(hanging_up, lambda zendesk: zendesk.users.create({"name": "x"})) == (True, 0)


BROKEN = [
    pytest.param({"action": "reset-after", "after_bytes": 20}, id="reset in the middle of the body"),
    pytest.param({"action": "drop"}, id="closed without an answer"),
    pytest.param({"action": "delay", "seconds": 0.6}, id="silent for longer than the read timeout"),
]


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_answer_to_a_read_is_asked_for_again(sandbox: Sandbox, how: dict[str, object]) -> None:
    """A read whose answer breaks off or does not come is repeated, and succeeds."""
    with connected(sandbox, timeout=(1.0, 0.3)) as zendesk:
        known = zendesk.users.me()["id"]
        sandbox.post_control("faults", {"match": "GET /api/v2/users/*", "times": 2, **how})
        assert zendesk.users.show(known)["id"] == known


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_answer_to_a_post_is_not_asked_for_again(sandbox: Sandbox, how: dict[str, object]) -> None:
    """A write whose answer breaks off or does not come is sent once, and said to be unanswered."""
    with connected(sandbox, timeout=(1.0, 0.3)) as zendesk:
        zendesk.users.me()
        before = sandbox.get_control("stats")["calls"].get("POST /api/v2/organizations", 0)
        sandbox.post_control("faults", {"match": "POST /api/v2/organizations", "times": 1, **how})
        with pytest.raises(TryLater) as error:
            zendesk.organizations.create({"name": f"Broken {how}"})
        assert error.value.unanswered
        time.sleep(0.5 if how["action"] == "delay" else 0.0)
        assert sandbox.get_control("stats")["calls"]["POST /api/v2/organizations"] == before + 1
