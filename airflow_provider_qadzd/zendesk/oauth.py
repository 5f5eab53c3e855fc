"""A valid Zendesk access token, at hand for every call and shared by all processes.

Tokens are kept in a `TokenStore`. Whoever finds one missing or about to lapse takes the store's lease, asks Zendesk
outside of any transaction, and stores the answer before using it; the others wait a little and read again. So a refresh
token is not spent twice. No secret is ever part of a repr, a log, an address or an error. The builders of addresses and
bodies are pure.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import urlencode, urlsplit

import requests
from requests.auth import AuthBase

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.records import Clock, Lease, SystemClock, Token, TokenStore
from airflow_provider_qadzd.zendesk.pace import Again, unanswered
from airflow_provider_qadzd.zendesk.wire import CONNECT, error_from

TOKENS = "/oauth/tokens"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class ZendeskSettings:
    """What a Zendesk connection's extra may say. `timeout` is in seconds; `rate_share` is our part of each limit."""

    auth: str = "client_credentials"
    scope: str = "read write"
    redirect_uri: str = ""
    timeout: float = 60.0
    rate_share: float = 0.7
    bulk_import: str = "auto"

    def __post_init__(self) -> None:
        _check(self.auth in ("client_credentials", "authorization_code", "api_token"), "auth", self.auth)
        _check(self.bulk_import in ("auto", "on", "off"), "bulk_import", self.bulk_import)
        _check(0 < self.rate_share <= 1, "rate_share", self.rate_share)
        _check(self.timeout > 0, "timeout", self.timeout)
        uri = urlsplit(self.redirect_uri)
        safe = uri.scheme == "https" or (uri.scheme == "http" and uri.hostname in LOOPBACK)
        _check(not self.redirect_uri or safe, "redirect_uri", self.redirect_uri)


_ALLOWED = {
    "auth": "client_credentials, authorization_code or api_token",
    "bulk_import": "auto, on or off",
    "rate_share": "above 0 and at most 1",
    "timeout": "above 0 seconds",
    "redirect_uri": "an absolute https address, as registered with the OAuth client",
}


def _check(good: bool, name: str, value: object) -> None:
    if not good:
        raise FixFirst(f"Zendesk connection, extra: {name} is {value!r}.", advice=f"It must be {_ALLOWED[name]}.")


def base_url_of(host: str, *, allow_http: bool = False) -> str:
    """`https://acme.zendesk.com` from a subdomain, a host or a full address, with or without `/api/v2`.

    Plain http only for this machine, or with `allow_http`. FixFirst for anything else, credentials or a query.
    """
    text = host.strip()
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", text) and text.lower() != "localhost":
        text = f"{text}.zendesk.com"
    if "://" not in text:
        text = ("http://" if _hostname(f"//{text}") in LOOPBACK else "https://") + text
    name, parts = _hostname(text), urlsplit(text)
    plain = name in LOOPBACK or allow_http
    extra = parts.username or parts.password or parts.query or parts.fragment
    known_path = parts.path.rstrip("/") in ("", "/api/v2")
    if not name or extra or not known_path or parts.scheme not in (("https", "http") if plain else ("https",)):
        # Not repeated here: it may hold a password.
        raise FixFirst("The Zendesk host is not usable.", advice="Give a subdomain, or https://SUBDOMAIN.zendesk.com.")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _hostname(text: str) -> str:
    """The host in an address; empty if there is none or its port is not a number."""
    try:
        parts = urlsplit(text)
        return (parts.hostname or "") if parts.port is None or parts.port else ""
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """An OAuth client as registered in Zendesk; `where` names the connection it comes from, for errors."""

    base_url: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    scope: str = "read write"
    redirect_uri: str = ""
    grant: Literal["client_credentials", "authorization_code"] = "client_credentials"
    where: str = "the Zendesk connection"


def new_state() -> str:
    """An unguessable value that ties the answer of the consent page to the one who asked."""
    return secrets.token_urlsafe(32)


def new_verifier() -> str:
    """A PKCE verifier, to be kept secret until the code is exchanged."""
    return secrets.token_urlsafe(64)


# https://www.rfc-editor.org/rfc/rfc7636#section-4.2
def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


# https://support.zendesk.com/hc/en-us/articles/4408845965210-Using-OAuth-authentication-with-your-application
def authorization_url(client: OAuthClient, state: str, verifier: str) -> str:
    """Where to send the browser for consent. It holds the verifier's challenge, not the verifier."""
    query = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
        "scope": client.scope,
        "state": state,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
    }
    return f"{client.base_url}/oauth/authorizations/new?{urlencode(query)}"


# https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
def code_request(client: OAuthClient, code: str, verifier: str) -> dict[str, str]:
    """The body that turns a code, which lives 120 seconds, into the first token."""
    more = {"code": code, "code_verifier": verifier, "redirect_uri": client.redirect_uri, "scope": client.scope}
    return _token_request(client, "authorization_code", more)


def refresh_request(client: OAuthClient, refresh_token: str) -> dict[str, str]:
    """The body that turns a refresh token into the next access and refresh token; the old ones die."""
    return _token_request(client, "refresh_token", {"refresh_token": refresh_token, "scope": client.scope})


def client_credentials_request(client: OAuthClient) -> dict[str, str]:
    """The body that asks for a token which acts as the user who made the OAuth client."""
    return _token_request(client, "client_credentials", {"scope": client.scope})


def _token_request(client: OAuthClient, grant_type: str, more: dict[str, str]) -> dict[str, str]:
    secret = {"client_secret": client.client_secret} if client.client_secret else {}
    return {"grant_type": grant_type, "client_id": client.client_id, **secret, **more}


def missing_scopes(asked: str, granted: str) -> tuple[str, ...]:
    """What was asked for and not granted. Zendesk grants unknown names, and then refuses every call with 403."""
    return tuple(sorted(set(asked.split()) - set(granted.split())))


class Credentials(Protocol):
    """What fills the Authorization header."""

    def header(self) -> str:
        """The header's value, valid now."""

    def after_401(self, refused: str) -> str | None:
        """Another value in place of `refused`, or None if there is no other."""


class ZendeskAuth(AuthBase):
    """Puts the Authorization header on requests to `base_url`, and on a 401 renews it and repeats, once.

    A request to any other address is refused before it is sent: the header is for Zendesk alone.
    """

    def __init__(self, base_url: str, credentials: Credentials) -> None:
        self._origin, self._credentials = _origin(base_url), credentials

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if _origin(request.url or "") != self._origin:
            raise FixFirst("Zendesk's credentials are not for another address.", facts=Facts(system="zendesk"))
        request.headers["Authorization"] = self._credentials.header()
        request.register_hook("response", self._once_more)
        return request

    def _once_more(self, answer: requests.Response, **options: Any) -> requests.Response:
        if answer.status_code != 401:
            return answer
        refused = str(answer.request.headers.get("Authorization"))
        fresh = self._credentials.after_401(refused)
        if fresh is None or fresh == refused:
            return answer
        answer.close()
        again = answer.request.copy()
        again.headers["Authorization"] = fresh
        # Straight to the adapter, which runs no hooks: a second 401 goes to the caller.
        second: requests.Response = answer.connection.send(again, **options)
        second.request = again
        second.history.append(answer)
        return second


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


# https://developer.zendesk.com/documentation/api-basics/authentication/oauth-migration/
@dataclass(frozen=True, slots=True)
class ApiToken:
    """An API token: the old way in, without scopes. Zendesk ends it on 2027-04-30."""

    email: str
    token: str = field(repr=False)

    def header(self) -> str:
        """Basic credentials, as Zendesk wants them for API tokens."""
        return "Basic " + base64.b64encode(f"{self.email}/token:{self.token}".encode()).decode()

    def after_401(self, refused: str) -> None:
        """There is no other."""


def api_token_warning(where: str) -> str:
    """What to tell who still uses an API token; `where` names the connection."""
    return (
        f"{where} uses a Zendesk API token. Zendesk deactivates all API tokens on 2027-04-30. "
        "Register an OAuth client and set auth to client_credentials."
    )


class _InvalidGrant(Exception):
    """Zendesk says that a code or refresh token is spent, lapsed or revoked."""


class TokenSource:
    """The token called `name` in `store`, kept valid. Usable from several threads; implements Credentials.

    `session` must carry no auth of its own. A token is renewed when fewer than `early` seconds of it are left. Who finds
    another process at it waits up to `patience` seconds, then raises TryLater.
    """

    def __init__(
        self,
        name: str,
        client: OAuthClient,
        store: TokenStore,
        session: requests.Session,
        clock: Clock = SystemClock(),  # noqa: B008 - stateless
        *,
        early: float = 60.0,
        patience: float = 20.0,
        lease_seconds: float = 90.0,
        timeout: tuple[float, float] = (10.0, 30.0),
    ) -> None:
        self._name, self._client, self._store, self._session, self._clock = name, client, store, session, clock
        self._early, self._patience, self._lease_seconds, self._timeout = early, patience, lease_seconds, timeout
        self._last: Token | None = None

    def header(self) -> str:
        """`Bearer` and a token that is valid now."""
        return "Bearer " + self.access_token()

    def after_401(self, refused: str) -> str | None:
        """`Bearer` and another token than the refused one, asked for at most once."""
        return "Bearer " + self.access_token(refused=refused.removeprefix("Bearer "))

    def access_token(self, refused: str = "") -> str:
        """An access token that is valid now and is not `refused`.

        FixFirst when a person must consent again or correct the connection; TryLater when Zendesk, or another process
        that is renewing the token, takes too long.
        """

        def usable(token: Token | None) -> bool:
            if token is None or token.state != "ok" or not token.access or token.access == refused:
                return False
            return token.expires_at is None or token.expires_at > self._clock.time() + self._early

        if not usable(self._last):
            token, lease = self._token_or_lease(usable)
            self._last = token if lease is None else self._renewed(lease, token, usable)
        return self._last.access if self._last else ""

    def exchange_code(self, code: str, verifier: str) -> Token:
        """Turn the consent page's code into the first token, and store it. FixFirst if the code is spent or lapsed."""
        _, lease = self._token_or_lease(lambda token: False)
        try:
            token = self._ask(code_request(self._client, code, verifier))
        except _InvalidGrant:
            self._store.release(_held(lease))
            advice = f"A code lives 120 seconds and is good once. {CONNECT}"
            raise FixFirst("Zendesk does not accept the code.", advice=advice, facts=_facts("invalid_grant")) from None
        except BaseException:
            self._store.release(_held(lease))
            raise
        while not self._store.save(_held(lease), token):
            # Somebody's late answer came in between; consent given just now is newer still.
            _, lease = self._token_or_lease(lambda token: False)
        return token
