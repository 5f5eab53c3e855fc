"""How the sandbox's Zendesk grants, rotates and refuses tokens."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from airflow_provider_qadzd.sandbox import Sandbox

from .conftest import Client, token_for

CALLBACK = "http://127.0.0.1:9/back"
CLIENT = {"client_id": "sandbox", "client_secret": "sandbox"}
VERIFIER = "a-verifier-that-is-long-enough-for-everyone-0123456789"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


def consent(client: Client, **changes: str) -> requests.Response:
    """Ask for an authorization code."""
    query = {"response_type": "code", "client_id": "sandbox", "redirect_uri": CALLBACK, "scope": "read write"}
    return client.get("/oauth/authorizations/new", **{**query, "state": "s1", **changes})


def code_of(reply: requests.Response) -> str:
    """The code in a consent's redirect."""
    assert reply.status_code == 302, reply.text
    return parse_qs(urlsplit(reply.headers["location"]).query)["code"][0]


def exchange(client: Client, code: str, **changes: Any) -> requests.Response:
    """Turn a code into tokens."""
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, **CLIENT, **changes}
    return client.post("/oauth/tokens", body)


def refresh(client: Client, token: str) -> requests.Response:
    """Turn a refresh token into a new pair."""
    return client.post("/oauth/tokens", {"grant_type": "refresh_token", "refresh_token": token, **CLIENT})


def status_with(sandbox: Sandbox, token: str) -> int:
    """What a call with this token gets."""
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{sandbox.url}/api/v2/users/me.json", headers=headers, timeout=30).status_code


def test_consent_is_given_at_once_and_the_code_works_once(nobody: Client) -> None:
    """A code comes back with the caller's state and can be exchanged one time."""
    reply = consent(nobody)
    assert parse_qs(urlsplit(reply.headers["location"]).query)["state"] == ["s1"]
    first = exchange(nobody, code_of(reply))
    assert first.status_code == 200
    assert first.json()["scope"] == "read write"
    assert first.json()["expires_in"] == 1800
    second = exchange(nobody, code_of(reply))
    assert (second.status_code, second.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("verifier", "status"), [(VERIFIER, 200), ("something else", 400), (None, 400)], ids=["right", "wrong", "missing"]
)
def test_pkce_is_checked_at_the_exchange(nobody: Client, verifier: str | None, status: int) -> None:
    """A code asked for with an S256 challenge is only worth something with its verifier."""
    code = code_of(consent(nobody, code_challenge=CHALLENGE, code_challenge_method="S256"))
    more = {} if verifier is None else {"code_verifier": verifier}
    assert exchange(nobody, code, **more).status_code == status


def test_a_code_lives_two_minutes(sandbox: Sandbox, nobody: Client) -> None:
    """A code is dead 120 seconds after it was given."""
    code = code_of(consent(nobody))
    sandbox.post_control("clock", {"advance": 121})
    assert exchange(nobody, code).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "change", [{"client_id": "other"}, {"redirect_uri": ""}], ids=["unknown client", "no redirect"]
)
def test_consent_is_refused_without_a_known_client_and_a_redirect(nobody: Client, change: dict[str, str]) -> None:
    """An unknown client or a missing redirect address is 400."""
    assert consent(nobody, **change).status_code == 400


def test_consent_can_be_denied(sandbox: Sandbox, nobody: Client) -> None:
    """With the setting on, the redirect carries access_denied and no code."""
    sandbox.post_control("settings", {"deny_authorization": True})
    query = parse_qs(urlsplit(consent(nobody).headers["location"]).query)
    assert query["error"] == ["access_denied"]
    assert "code" not in query


def test_a_refresh_kills_the_old_pair_and_spares_the_new_one(sandbox: Sandbox, nobody: Client) -> None:
    """Refreshing kills the old access and refresh token; replaying the old one does not harm the successor."""
    old = exchange(nobody, code_of(consent(nobody))).json()
    new = refresh(nobody, old["refresh_token"]).json()
    assert status_with(sandbox, old["access_token"]) == 401
    replayed = refresh(nobody, old["refresh_token"])
    assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")
    assert status_with(sandbox, new["access_token"]) == 200
    assert refresh(nobody, new["refresh_token"]).status_code == 200


def test_the_token_endpoint_takes_forms(sandbox: Sandbox) -> None:
    """A form body is as good as a JSON body."""
    form = {"grant_type": "client_credentials", "scope": "read", **CLIENT}
    assert requests.post(f"{sandbox.url}/oauth/tokens", data=form, timeout=30).json()["token_type"] == "bearer"


def test_client_credentials_bring_no_refresh_token(nobody: Client) -> None:
    """The grant for machines is asked for again instead of being refreshed."""
    reply = nobody.post("/oauth/tokens", {"grant_type": "client_credentials", "scope": "read", **CLIENT})
    assert "refresh_token" not in reply.json()


def test_a_wrong_secret_is_invalid_client(nobody: Client) -> None:
    """Wrong client credentials are 401 invalid_client."""
    body = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "no", "scope": "read"}
    reply = nobody.post("/oauth/tokens", body)
    assert (reply.status_code, reply.json()["error"]) == (401, "invalid_client")


def test_tokens_expire_by_the_sandbox_clock(sandbox: Sandbox) -> None:
    """An access token is dead when its time is up, with the documented body."""
    sandbox.post_control("settings", {"token_ttl": 400})
    token = token_for(sandbox.url)
    sandbox.post_control("clock", {"advance": 399})
    assert status_with(sandbox, token) == 200
    sandbox.post_control("clock", {"advance": 2})
    headers = {"Authorization": f"Bearer {token}"}
    reply = requests.get(f"{sandbox.url}/api/v2/organizations.json", headers=headers, timeout=30)
    assert (reply.status_code, reply.json()["error"]) == (401, "invalid_token")


def test_the_current_token_can_be_seen_and_revoked(zendesk: Client) -> None:
    """The current token shows its scopes and its end, and dies when it is deleted."""
    shown = zendesk.get("/api/v2/oauth/tokens/current.json").json()["token"]
    assert shown["scopes"] == ["read", "write"]
    assert shown["expires_at"].endswith("Z")
    assert "refresh_token" not in shown
    assert zendesk.delete("/api/v2/oauth/tokens/current.json").status_code == 204
    assert zendesk.get("/api/v2/users/me").status_code == 401


@pytest.mark.parametrize(
    ("scope", "read", "write"),
    [
        ("read write", 200, 201),
        ("read", 200, 403),
        ("organizations:read", 200, 403),
        ("organizations:read organizations:write", 200, 201),
        ("tickets:read tickets:write", 403, 403),
        ("read write everything", 403, 403),
    ],
)
def test_scopes_are_enforced(sandbox: Sandbox, scope: str, read: int, write: int) -> None:
    """A scope opens what it names, and one unknown scope closes everything."""
    client = Client(sandbox.url, {"Authorization": f"Bearer {token_for(sandbox.url, scope)}"})
    assert client.get("/api/v2/organizations").status_code == read
    assert client.post("/api/v2/organizations", {"organization": {"name": "Scoped"}}).status_code == write
    client.session.close()


def test_strangers_are_anonymous_at_users_me_and_refused_elsewhere(sandbox: Sandbox) -> None:
    """Bad Basic credentials get 200 and an anonymous user from users/me, and 401 from anything else."""
    me = requests.get(f"{sandbox.url}/api/v2/users/me.json", auth=("a@b.example/token", "bad"), timeout=30)
    assert (me.status_code, me.json()["user"]["id"], me.json()["user"]["name"]) == (200, None, "Anonymous user")
    other = requests.get(f"{sandbox.url}/api/v2/users.json", auth=("a@b.example/token", "bad"), timeout=30)
    assert (other.status_code, other.json()) == (401, {"error": "Couldn't authenticate you"})
