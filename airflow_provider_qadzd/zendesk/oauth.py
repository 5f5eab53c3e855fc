"""A valid Zendesk access token, at hand for every call and shared by all processes.

Whoever finds a token missing or about to lapse takes the `TokenStore`'s lease, asks Zendesk outside of any transaction,
and stores the answer before using it; the others wait a little and read again. So a refresh token is not spent twice.
No secret is ever part of a repr, a log, an address or an error. The builders of addresses and bodies are pure.
"""

from __future__ import annotations

import base64
import hashlib
import random
import secrets
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol
from urllib.parse import urlencode, urlsplit

import requests
from requests.auth import AuthBase

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.records import Clock, Lease, SystemClock, Token, TokenStore
from airflow_provider_qadzd.zendesk.pace import Again, unanswered
from airflow_provider_qadzd.zendesk.wire import ADDRESS, CONNECT, error_from

TOKENS = "/oauth/tokens"
TIMEOUT = (10.0, 30.0)
LEASE_SECONDS = 90.0  # outlasts a token request


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
        request.register_hook("response", self._once_more)  # type: ignore[no-untyped-call]
        return request

    def _once_more(self, answer: requests.Response, **options: Any) -> requests.Response:
        if answer.status_code != 401:
            return answer
        refused = str(answer.request.headers.get("Authorization"))
        fresh = self._credentials.after_401(refused)
        if fresh is None or fresh == refused:
            return answer
        _ = answer.content  # read to its end, so that the connection can be used again
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


class _InvalidGrant(FixFirst):
    """Zendesk says that a code or refresh token is spent, lapsed or revoked."""


class TokenSource:
    """The token called `name` in `store`, kept valid. Usable from several threads; implements Credentials.

    A token is renewed when fewer than `early` seconds of it are left. Who finds another process at it waits up to
    `patience` seconds, then raises TryLater. `session` may be shared: its own auth is not used for tokens.
    """

    def __init__(
        self,
        name: str,
        client: OAuthClient,
        store: TokenStore,
        session: requests.Session,
        clock: Clock = SystemClock(),  # noqa: B008 - stateless
        early: float = 60.0,
        patience: float = 20.0,
    ) -> None:
        self._name, self._client, self._store, self._session, self._clock = name, client, store, session, clock
        self._early, self._patience = early, patience
        self._last: Token | None = None

    def header(self) -> str:
        return "Bearer " + self.access_token()

    def after_401(self, refused: str) -> str | None:
        return "Bearer " + self.access_token(refused=refused.removeprefix("Bearer "))

    def access_token(self, refused: str = "") -> str:
        """An access token that is valid now and not `refused`. FixFirst: consent again, or correct the connection."""

        def usable(token: Token | None) -> bool:
            if token is None or token.state != "ok" or not token.access or token.access == refused:
                return False
            return token.expires_at is None or token.expires_at > self._clock.time() + self._early

        if usable(token := self._last) and token:
            return token.access
        self._last = self._shared(usable)
        return self._last.access

    def exchange_code(self, code: str, verifier: str, authorized_by: str = "") -> Token:
        """Turn the consent page's code into the first token, and store it. FixFirst if the code is spent or lapsed."""
        lease = self._lease()
        try:
            token = replace(self._ask(code_request(self._client, code, verifier)), authorized_by=authorized_by)
        except BaseException:
            self._store.release(lease)
            raise
        # A late answer to somebody else may come in between: the consent given just now is newer still.
        if not self._store.save(lease, token) and not self._store.save(self._lease(), token):
            raise _held_too_long()
        self._last = token
        return token

    def _shared(self, usable: Callable[[Token | None], bool]) -> Token:
        """The stored token once it is usable, renewed by us or by another."""
        for token in self._reads():
            if token is not None and usable(token):
                return token
            if lease := self._try_lease(token):
                return self._renewed(lease, token, usable)
        raise _held_too_long()

    def _lease(self) -> Lease:
        lease = next(filter(None, map(self._try_lease, self._reads())), None)
        if lease is None:
            raise _held_too_long()
        return lease

    def _reads(self) -> Iterator[Token | None]:
        until = self._clock.time() + self._patience
        while True:
            yield self._store.read(self._name)
            wait = random.uniform(0.2, 0.6)
            if self._clock.time() + wait > until:
                return
            self._clock.sleep(wait)

    def _try_lease(self, token: Token | None) -> Lease | None:
        """The lease, under a name of its own each time: threads of one process are strangers to each other, too."""
        return self._store.lease(self._name, uuid.uuid4().hex, token.version if token else 0, LEASE_SECONDS)

    def _renewed(self, lease: Lease, old: Token | None, usable: Callable[[Token | None], bool]) -> Token:
        try:
            fresh = self._ask(self._renewal(old), old)
        except _InvalidGrant as refusal:
            self._store.release(lease, connect_again=True)
            return self._stored_meanwhile(usable, refusal)
        except BaseException:
            self._store.release(lease)
            raise
        if self._store.save(lease, fresh):
            return fresh
        return self._stored_meanwhile(usable, _held_too_long())

    def _stored_meanwhile(self, usable: Callable[[Token | None], bool], otherwise: QadzdError) -> Token:
        """The answer of an earlier holder of the lease, if it was stored late, after all."""
        token = self._store.read(self._name)
        if token is None or not usable(token):
            raise otherwise
        return token

    def _renewal(self, old: Token | None) -> dict[str, str]:
        if self._client.grant == "client_credentials":
            return client_credentials_request(self._client)
        if old is None or not old.refresh or old.state == "connect_again":
            what = f"{self._client.where}: Zendesk's consent is missing, or has ended."
            raise FixFirst(what, advice=CONNECT, facts=_FACTS)
        return refresh_request(self._client, old.refresh)

    def _ask(self, body: dict[str, str], old: Token | None = None) -> Token:
        """The token that Zendesk answers. What it does not send again, a refresh token, is kept from `old`."""
        now = self._clock.time()
        try:
            answer = self._session.post(
                self._client.base_url + TOKENS, json=body, headers={"Accept": "application/json"},
                auth=lambda request: request,  # no Authorization header, not even from a .netrc file
                timeout=TIMEOUT, allow_redirects=False,
            )  # fmt: skip
        except requests.RequestException as error:
            failure = unanswered(error, "POST", TOKENS, self._client.base_url)
            raise (failure.error if isinstance(failure, Again) else failure) from None
        if answer.status_code not in (200, 201):
            raise self._refusal(answer, now)
        return self._token(answer, now, old)

    def _token(self, answer: requests.Response, now: float, old: Token | None) -> Token:
        try:
            given = answer.json()
        except ValueError:
            given = None
        access = given.get("access_token") if isinstance(given, dict) else None
        if not isinstance(access, str) or not access:
            raise FixFirst("Zendesk answered without a token.", advice=ADDRESS, facts=_FACTS)
        refresh = given.get("refresh_token")
        return Token(
            access=access,
            refresh=refresh or (old.refresh if old and self._client.grant == "authorization_code" else None),
            expires_at=_later(now, given.get("expires_in")),
            scope=str(given.get("scope") or ""),
            version=old.version + 1 if old else 1,
            refresh_until=_later(now, given.get("refresh_token_expires_in")),
            authorized_by=old.authorized_by if old else "",
        )

    # https://www.rfc-editor.org/rfc/rfc6749#section-5.2
    def _refusal(self, answer: requests.Response, now: float) -> QadzdError:
        """What to raise; by the code, since Zendesk's status and text vary."""
        client, status, url = self._client, answer.status_code, self._client.base_url
        error = error_from(status, answer.headers, answer.content, "POST", TOKENS, base_url=url, now=now)
        code, where = error.facts.code, client.where
        if code == "invalid_grant" and client.grant == "authorization_code":
            what = f"{where}: Zendesk does not accept the code or refresh token, which is spent or has lapsed."
            return _InvalidGrant(what, advice=CONNECT, facts=error.facts)
        if isinstance(error, TryLater) or status == 404 or 300 <= status < 400:
            return error
        if code == "invalid_scope":
            advice = "Ask for no more than the OAuth client may have: `scope` in the extra."
            return FixFirst(f"{where}: Zendesk does not grant this scope.", advice=advice, facts=error.facts)
        what = f"{where}: Zendesk does not accept the OAuth client."
        return FixFirst(what, advice="Check its id and secret, and that it is confidential.", facts=error.facts)


_FACTS = Facts(system="zendesk", method="POST", path=TOKENS)


def _later(now: float, seconds: object) -> float | None:
    return now + seconds if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else None


def _held_too_long() -> TryLater:
    return TryLater("Another process is still renewing the Zendesk token.", wait=15.0, facts=_FACTS)
