"""Connecting and disconnecting on the page: who may, and what every answer of Zendesk comes to."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.connect.conftest import OWN, PAGE, Browser, signed_in, state_in, text_of

pytestmark = pytest.mark.usefixtures("airflow_database")


REQUESTS = [
    ("GET", PAGE),
    ("GET", f"{PAGE}/callback?state=x&code=y"),
    ("POST", f"{PAGE}/zendesk_default/start"),
    ("POST", f"{PAGE}/zendesk_default/disconnect"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS, ids=["page", "callback", "start", "disconnect"])
@pytest.mark.parametrize(("user", "status"), [("", 401), ("vera", 403)], ids=["anonymous", "viewer"])
def test_strangers_and_viewers_are_refused(
    user: str, status: int, method: str, path: str, app: object, asking: object
) -> None:
    """Whoever may not edit connections gets nothing, in words, and nothing is told that may be kept or framed."""
    answer = Browser(app, user).client.request(method, path)
    assert answer.status_code == status
    assert ("Sign in to Airflow" in answer.text) is (status == 401)
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"


def test_a_cookie_that_is_none_of_airflows_is_no_login(app: object, asking: object) -> None:
    """Whoever brings an unreadable cookie is asked to sign in; Airflow's token as a header will do as well."""
    browser = Browser(app)
    browser.client.cookies.set("_token", "garbage")
    assert browser.client.get(PAGE).status_code == 401
    browser = Browser(app)
    browser.client.headers["Authorization"] = f"Bearer {signed_in('anna')}"
    assert "anna" in browser.page()


@pytest.mark.parametrize("user", ["olga", "anna"], ids=["op", "admin"])
def test_who_may_edit_connections_sees_the_page(user: str, app: object, asking: object) -> None:
    """The page names the account, how it is authorized, and what is left to do."""
    page = Browser(app, user).page()
    assert state_in(page) == "not connected yet"
    read = text_of(page)
    for part in (user, "zendesk_default", "authorization_code", f"{OWN}{PAGE}/callback", "Connect"):
        assert part in read
    assert "Disconnect</button>" not in page


def test_the_link_is_in_the_menu(anna: Browser) -> None:
    """Airflow's interface is told of a link that opens a tab of its own, not of a frame."""
    plugins = anna.client.get("/api/v2/plugins").json()["plugins"]
    views = next(one["external_views"] for one in plugins if one["name"] == "qadzd")
    assert ("Connect Zendesk", PAGE, None) in [(view["name"], view["href"], view["url_route"]) for view in views]


def test_the_receiver_is_still_there(anna: Browser) -> None:
    """The page and the receiver share a prefix, and neither hides the other."""
    assert anna.client.get("/qadzd/health/live").json() == {"alive": True}
    unsigned = anna.client.post("/qadzd/webhooks/zendesk/acme", json={})
    assert unsigned.status_code == 401
    assert unsigned.text == ""


def test_connecting_again_ends_the_earlier_token(anna: Browser) -> None:
    """What nobody here remembers any more could not be taken back: it is revoked once the new one is kept."""
    anna.connect()
    hook = ZendeskHook()
    earlier = hook.secrets.read(hook.token_name)
    assert earlier is not None
    anna.connect()
    dead = requests.get(
        f"{hook.account.base_url}/api/v2/users/me", headers={"Authorization": f"Bearer {earlier.access}"}, timeout=10
    )
    assert dead.status_code == 401
    assert ZendeskHook().client.users.me()["role"] == "admin"


def test_an_account_is_connected_and_disconnected(anna: Browser, ledger_file: sqlite3.Connection) -> None:
    """Connect, consent, and the page says as whom, by whom, for what and until when; Disconnect takes it back."""
    page = anna.connect()
    read = text_of(page)
    assert state_in(page) == "connected"
    for part in ("Connected to", "Authorized by anna", "(admin)", "Scopes granted read write", "UTC", "Connect again"):
        assert part in read
    assert "Connected to" not in text_of(anna.page())  # told once
    hook = ZendeskHook()
    token = hook.secrets.read(hook.token_name)
    assert token is not None
    assert token.authorized_by == "anna"
    assert hook.client.users.me()["role"] == "admin"
    assert anna.press("disconnect").headers["location"] == PAGE
    page = anna.page()
    assert state_in(page) == "not connected yet"
    assert "Disconnected from" in text_of(page)
    dead = requests.get(
        f"{hook.account.base_url}/api/v2/users/me", headers={"Authorization": f"Bearer {token.access}"}, timeout=10
    )
    assert dead.status_code == 401
    assert ledger_file.execute("SELECT count(*) FROM qadzd_credential").fetchone() == (0,)


def test_connecting_again_replaces_the_token(anna: Browser) -> None:
    """A second consent is the newer token, whatever state the first one was in."""
    anna.connect()
    hook = ZendeskHook()
    first = hook.token_source.access_token()
    anna.connect()
    assert ZendeskHook().token_source.access_token() != first


def test_the_consent_page_is_asked_by_the_book(anna: Browser) -> None:
    """Zendesk is asked with PKCE, the registered address and the scopes; nothing secret is in the address."""
    there = anna.press("start").headers["location"]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(there).query).items()}
    assert asked["redirect_uri"] == f"{OWN}{PAGE}/callback"
    assert (asked["code_challenge_method"], asked["scope"], asked["client_id"]) == ("S256", "read write", "sandbox")
    assert "verifier" not in there
    assert "client_secret" not in there


def test_the_connection_may_name_its_own_redirect(anna: Browser, asking: Callable[..., None]) -> None:
    """An extra `redirect_uri` goes before Airflow's own address."""
    asking(redirect_uri="https://airflow.example.com/qadzd/connect/callback")
    there = anna.press("start").headers["location"]
    assert parse_qs(urlsplit(there).query)["redirect_uri"] == ["https://airflow.example.com/qadzd/connect/callback"]


@pytest.mark.parametrize("own", ["http://airflow.example.com", ""], ids=["plain http", "not set"])
def test_an_address_that_zendesk_would_refuse_is_told(own: str, anna: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without https nobody is sent to Zendesk to be refused there: the page says what to set."""
    slip = anna.slip()
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", own)
    answer = anna.client.post(f"{PAGE}/zendesk_default/start", data={"slip": slip})
    assert answer.status_code == 400
    assert "only https" in text_of(answer.text)
    assert "[api] base_url" in text_of(answer.text)


def test_a_denial_is_told_in_words(anna: Browser, sandbox: Sandbox) -> None:
    """Denied in Zendesk, the page says so, and what to do."""
    sandbox.post_control("/_sandbox/settings", {"deny_authorization": True})
    read = text_of(anna.connect())
    assert "consent was denied in Zendesk (access_denied)" in read
    assert "choose Allow" in read
    assert "not connected yet" in read


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"error": "invalid_scope"}, "does not grant this scope"),
        ({"error": "temporarily_unavailable"}, "in a few minutes"),
        ({"error": "unauthorized_client"}, "did not give consent (unauthorized_client)"),
        ({"error": "<b>own words</b>", "error_description": "own words"}, "did not give consent (no code)"),
        ({}, "did not give consent (no code)"),
        ({"code": "spent-code-4711"}, "does not accept the code"),
    ],
    ids=["scope", "busy", "client", "an invented error", "nothing", "a code that is spent"],
)
def test_every_other_answer_is_told_in_words(given: dict[str, str], told: str, anna: Browser) -> None:
    """Whatever Zendesk answers, the page says what it means; nothing of the address is repeated."""
    state = parse_qs(urlsplit(anna.consent()).query)["state"][0]
    answer = anna.client.get(f"{PAGE}/callback?{urlencode({'state': state, **given})}")
    assert answer.status_code == 303
    page = anna.page()
    assert told in text_of(page)
    for secret in (state, "own words", "spent-code-4711"):
        assert secret not in page


def test_an_answer_is_taken_once(anna: Browser) -> None:
    """The same redirect again is refused, and the account stays connected."""
    back = anna.consent()
    assert anna.client.get(back).status_code == 303
    again = anna.client.get(back)
    assert again.status_code == 400
    assert "expired or was used already" in text_of(again.text)
    assert state_in(anna.page()) == "connected"


def test_an_unknown_answer_may_belong_to_a_terminal(anna: Browser) -> None:
    """A state that nobody here waits for stays in the address bar, with the way to bring it to the terminal."""
    for path in (f"{PAGE}/callback?state=guessed&code=x", f"{PAGE}/callback"):
        answer = anna.client.get(path)
        assert answer.status_code == 400
        assert "airflow qadzd connect" in answer.text
        assert "address bar" in answer.text


def test_another_user_cannot_bring_the_answer(anna: Browser, app: object) -> None:
    """A request of one user is nothing to another one, and is spent."""
    back = anna.consent()
    answer = Browser(app, "bert").client.get(back)
    assert answer.status_code == 400
    assert "another Airflow user" in text_of(answer.text)
    assert anna.client.get(back).status_code == 400
    assert state_in(anna.page()) == "not connected yet"


def test_a_late_answer_is_refused(anna: Browser, ledger_file: sqlite3.Connection) -> None:
    """After ten minutes the request is too old."""
    back = anna.consent()
    ledger_file.execute("UPDATE qadzd_credential SET written_at = '2020-01-01T00:00:00.000Z' WHERE holder = 'consent'")
    ledger_file.commit()
    assert "older than 10 minutes" in text_of(anna.client.get(back).text)


def test_a_connection_that_changed_meanwhile_is_not_connected(
    anna: Browser, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code goes to nobody but the account that gave it."""
    back = anna.consent()
    other = json.loads(os.environ["AIRFLOW_CONN_ZENDESK_DEFAULT"]) | {"login": "another-client"}
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", json.dumps(other))
    anna.client.get(back)
    assert "was changed after consent was asked for" in text_of(anna.page())
    assert "POST /oauth/tokens" not in sandbox.get_control("/_sandbox/stats")["calls"]


def test_a_token_that_is_dead_is_forgotten(anna: Browser, sandbox: Sandbox) -> None:
    """Revoked in Zendesk by hand, it is disconnected here all the same."""
    anna.connect()
    hook = ZendeskHook()
    hook.client.tokens.revoke_current()
    anna.press("disconnect")
    page = anna.page()
    assert "had ended already" in text_of(page)
    assert state_in(page) == "not connected yet"


def test_a_token_that_cannot_be_revoked_now_stays(anna: Browser, sandbox: Sandbox) -> None:
    """While Zendesk is away nothing is forgotten: a token that nobody knows could not be revoked any more."""
    anna.connect()
    fault = {
        "match": "DELETE /api/v2/oauth/tokens/current", "action": "status", "status": 429, "retry_after": "600",
    }  # fmt: skip
    sandbox.post_control("/_sandbox/faults", fault)
    anna.press("disconnect")
    assert state_in(anna.page()) == "connected"


def test_a_token_that_zendesk_will_not_revoke_is_forgotten_and_told(anna: Browser, sandbox: Sandbox) -> None:
    """Refused with 403, the token is forgotten here, and the page says where to end it there."""
    anna.connect()
    fault = {"match": "DELETE /api/v2/oauth/tokens/current", "action": "status", "status": 403}
    sandbox.post_control("/_sandbox/faults", fault)
    anna.press("disconnect")
    page = anna.page()
    assert "Admin Center" in text_of(page)
    assert state_in(page) == "not connected yet"
