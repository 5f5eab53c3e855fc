"""What the page says of each connection."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable

import pytest
from cryptography.fernet import Fernet

from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.ledger.vault import Secrets, Vault
from airflow_provider_qadzd.records import Token
from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.conftest import zendesk_connection
from tests.edge.connect.conftest import PAGE, Browser, state_in, text_of

pytestmark = pytest.mark.usefixtures("airflow_database")


def test_client_credentials_need_no_consent(app: object, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, shows what was granted, and has no button."""
    ZendeskHook().client.users.me()
    page = Browser(app, "anna").page()
    assert state_in(page) == "needs no consent"
    assert "Scopes granted read write" in text_of(page)
    assert "<button" not in page


def test_an_api_token_warns_with_its_end(app: object, asking: Callable[..., None]) -> None:
    """The day on which Zendesk ends all API tokens is there."""
    asking(auth="api_token")
    page = Browser(app, "anna").page()
    assert "2027-04-30" in state_in(page)
    assert "deactivates all API tokens on 2027-04-30" in text_of(page)
    assert "<button" not in page


@pytest.mark.parametrize(
    ("token", "state", "told"),
    [
        (Token("a", "r", 1.0, "read write", refresh_until=9e9), "connected", "renewed when needed"),
        (Token("a", "r", 1.0, "read write"), "connected", "renewed when needed"),
        (Token("a", "r", 1.0, "read write", refresh_until=2.0), "connect again", "no longer be renewed"),
        (Token("a", None, 1.0, "read write"), "connect again", "no longer be renewed"),
        (Token("a", None, 9e9, "read write"), "connected", "cannot be renewed"),
        (Token("a", None, None, "read write"), "connected", "Scopes granted"),
        (Token("a", "r", 9e9, "write", refresh_until=9e9), "connected, with too few scopes", "did not grant read"),
    ],
    ids=[
        "to be renewed", "renewable without an end", "lapsed", "expired", "not renewable", "for ever", "too few scopes",
    ],
)  # fmt: skip
def test_a_token_stands_in_words(token: Token, state: str, told: str, anna: Browser) -> None:
    """Each state of a token has its words."""
    keep(token)
    page = anna.page()
    assert state_in(page) == state
    assert told in text_of(page)


def test_a_refused_refresh_says_connect_again(anna: Browser, sandbox: Sandbox) -> None:
    """Once Zendesk refuses the refresh token, the page asks for a new consent, and that heals it."""
    anna.connect()
    hook = ZendeskHook()
    lease = hook.secrets.lease(hook.token_name, "me", 1, 90)
    assert lease is not None
    hook.secrets.release(lease, connect_again=True)
    assert state_in(anna.page()) == "connect again"
    assert state_in(anna.connect()) == "connected"


def test_an_unknown_scope_is_told_at_once(anna: Browser, asking: Callable[..., None]) -> None:
    """Zendesk gives a token for an unknown scope and then refuses every call: that is told, with what to correct."""
    asking(scope="reed write")
    read = text_of(anna.connect())
    assert "but the first call failed" in read
    assert "scope" in read


def keep(token: Token) -> None:
    """Put a token where the connection's is."""
    hook = ZendeskHook()
    lease = hook.secrets.lease(hook.token_name, "me", 0, 90)
    assert lease is not None
    assert hook.secrets.save(lease, token)


def test_a_token_that_no_key_opens_can_be_forgotten(anna: Browser, ledger_file: sqlite3.Connection) -> None:
    """With its key lost, the page says so, and Disconnect makes room for a new token."""
    hook = ZendeskHook()
    lost = Secrets(hook.ledger, Vault([Fernet.generate_key().decode()]), hook.account.holder)
    lease = lost.lease(hook.token_name, "me", 0, 90)
    assert lease is not None
    lost.save(lease, Token("a"))
    page = anna.page()
    assert state_in(page) == "cannot be opened"
    assert "not among the keys given" in text_of(page)
    anna.press("disconnect")
    assert "which no key opened, is forgotten" in text_of(anna.page())
    assert state_in(anna.connect()) == "connected"


def test_every_flow_and_what_is_wrong_with_it_is_listed(
    anna: Browser, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection stands once, with its flows; one that cannot be read does not hide the others."""
    flows = [{"name": "a"}, {"name": "b", "user": "b-{contact}", "organization": "b-{code}"}]
    flows += [{"name": "c", "zendesk": "wrong_extra"}, {"name": "d", "zendesk": "missing<b>"}]
    monkeypatch.setenv("AIRFLOW__QADZD__FLOWS", json.dumps(flows))
    monkeypatch.setenv("AIRFLOW_CONN_WRONG_EXTRA", zendesk_connection(sandbox.url, sope="read"))
    page = anna.page()
    read = text_of(page)
    assert page.count("<section") == 3
    for part in ("flows a, b", "Did you mean 'scope'", "There is no Airflow connection 'missing<b>'"):
        assert part in read
    assert "missing<b>" not in page


def test_without_a_vault_key_the_page_says_so(anna: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no page, and the words for what to set."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    answer = anna.client.get(PAGE)
    assert answer.status_code == 400
    assert "new-key" in answer.text


@pytest.mark.parametrize(
    ("secret", "told"),
    [("sandbox", "had ended already"), ("not-the-secret-8", "refused to revoke it")],
    ids=["the refresh token is dead", "the client is refused"],
)
def test_a_token_that_cannot_be_renewed_to_be_revoked(
    secret: str, told: str, anna: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expired token is renewed to be revoked; only a dead one counts as ended, a wrong client proves nothing."""
    keep(Token("a", "r", 1.0, "read write"))
    found = json.loads(os.environ["AIRFLOW_CONN_ZENDESK_DEFAULT"]) | {"password": secret}
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", json.dumps(found))
    anna.press("disconnect")
    page = anna.page()
    assert told in text_of(page)
    assert secret == "sandbox" or secret not in page
    assert state_in(page) == "not connected yet"
