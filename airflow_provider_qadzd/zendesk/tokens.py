"""A valid Zendesk access token, at hand for every call and shared by all processes.

Whoever finds a token missing or about to lapse takes the `TokenStore`'s lease, asks Zendesk outside of any transaction,
and stores the answer before using it; the others wait a little and read again. So a refresh token is not spent twice.
If that process dies in between, the same refresh token is tried once more after its lease has lapsed; if Zendesk then
refuses it for good, the token is marked `connect_again` and nobody asks until a person has consented.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import requests

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.records import Clock, Lease, SystemClock, Token, TokenStore
from airflow_provider_qadzd.zendesk.oauth import (
    OAuthClient,
    client_credentials_request,
    code_request,
    missing_scopes,
    refresh_request,
)
from airflow_provider_qadzd.zendesk.pace import Again, unanswered
from airflow_provider_qadzd.zendesk.wire import ADDRESS, CONNECT, error_from

log = logging.getLogger(__name__)

TOKENS = "/oauth/tokens"
TIMEOUT = (10.0, 30.0)
LEASE_SECONDS = 90.0  # outlasts a token request


class _InvalidGrant(FixFirst):
    """Zendesk says that a code or refresh token is spent, lapsed or revoked."""


class TokenSource:
    """The token called `name` in `store`, kept valid. Usable from several threads; implements Credentials.

    A token is renewed when fewer than `early` seconds of it are left. Who finds another process at it waits up to
    `patience` seconds, looking again every `pause` seconds, give or take half, then raises TryLater. `session` may be
    shared: its own auth is not used for tokens.
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
        pause: float = 0.4,
    ) -> None:
        self._name, self._client, self._store, self._session, self._clock = name, client, store, session, clock
        self._early, self._patience, self._pause = early, patience, pause
        self._last: Token | None = None

    @property
    def where(self) -> str:
        return self._client.where

    @property
    def advice(self) -> str:
        if self._client.grant == "authorization_code":
            return CONNECT
        return (
            "Check the connection's login and password, which are the OAuth client's id and secret, and that the user "
            "who made the client is still an admin."
        )

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
        if not self._saved(lease, token) and not self._saved(self._lease(), token):
            raise _held_too_long()
        self._last = token
        return token

    def _shared(self, usable: Callable[[Token | None], bool]) -> Token:
        """The stored token once it is usable, renewed by us or by another."""
        for token in self._reads():
            if token is not None and usable(token):
                return token
            self._require_consent(token)
            lease = self._try_lease(token)
            if lease and (fresh := self._renewed(lease, token)):
                return fresh
        raise _held_too_long()

    def _require_consent(self, token: Token | None) -> None:
        """FixFirst, before anybody is asked, where only a person can help."""
        if self._client.grant == "client_credentials":
            return
        if token is None or not token.refresh or token.state == "connect_again":
            what = f"{self._client.where}: Zendesk's consent is missing, or has ended."
            raise FixFirst(what, advice=CONNECT, facts=_FACTS)

    def _lease(self) -> Lease:
        lease = next(filter(None, map(self._try_lease, self._reads())), None)
        if lease is None:
            raise _held_too_long()
        return lease

    def _reads(self) -> Iterator[Token | None]:
        until = self._clock.time() + self._patience
        while True:
            yield self._store.read(self._name)
            wait = self._pause * random.uniform(0.5, 1.5)
            if self._clock.time() + wait > until:
                return
            self._clock.sleep(wait)

    def _try_lease(self, token: Token | None) -> Lease | None:
        """The lease, under a name of its own each time: threads of one process are strangers to each other, too."""
        return self._store.lease(self._name, uuid.uuid4().hex, token.version if token else 0, LEASE_SECONDS)

    def _renewed(self, lease: Lease, old: Token | None) -> Token | None:
        """The next token, stored; None if another one is there, or under way, that the store will tell."""
        try:
            fresh = self._ask(self._renewal(old), old)
        except _InvalidGrant:
            self._store.release(lease, connect_again=True)
            kept = self._store.read(self._name)
            if kept is None or kept.state == "connect_again":
                raise
            return None
        except BaseException:
            self._store.release(lease)
            raise
        return fresh if self._saved(lease, fresh) else None

    def _saved(self, lease: Lease, token: Token) -> bool:
        """Store the token, trying as long as the lease lasts: it is the only one, Zendesk has ended the one before."""
        while True:
            try:
                return self._store.save(lease, token)
            except TryLater:
                if self._clock.time() + self._pause > lease.until:
                    raise
                self._clock.sleep(self._pause)

    def _renewal(self, old: Token | None) -> dict[str, str]:
        if old and old.refresh and self._client.grant == "authorization_code":
            return refresh_request(self._client, old.refresh)
        return client_credentials_request(self._client)

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
            raise _before_the_call(failure.error if isinstance(failure, Again) else failure) from None
        if answer.status_code not in (200, 201):
            raise _before_the_call(self._refusal(answer, now))
        return self._token(answer, now, old)

    def _token(self, answer: requests.Response, now: float, old: Token | None) -> Token:
        try:
            given = answer.json()
        except ValueError:
            given = None
        access = given.get("access_token") if isinstance(given, dict) else None
        if not isinstance(access, str) or not access:
            raise FixFirst("Zendesk answered without a token.", advice=ADDRESS, facts=_FACTS)
        refresh, scope = given.get("refresh_token"), str(given.get("scope") or "")
        self._warn_of_scope(scope)
        return Token(
            access=access,
            refresh=refresh or (old.refresh if old and self._client.grant == "authorization_code" else None),
            expires_at=_later(now, given.get("expires_in")),
            scope=scope,
            version=old.version + 1 if old else 1,
            refresh_until=_later(now, given.get("refresh_token_expires_in")),
            authorized_by=old.authorized_by if old else "",
        )

    # https://www.rfc-editor.org/rfc/rfc6749#section-5.1: a scope that is not told is the one that was asked for
    def _warn_of_scope(self, granted: str) -> None:
        """A token that may do less than was asked for is used all the same; what it may not do, Zendesk refuses."""
        lacking = missing_scopes(self._client.scope, granted) if granted else ()
        if lacking:
            spelt, where = ", ".join(lacking), self._client.where
            log.warning("%s: Zendesk did not grant %s, but only: %s. Calls may be refused.", where, spelt, granted)

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


def _before_the_call(error: Exception) -> Exception:
    """The error of a token request: whatever became of that, the call that needs the token was never made."""
    if isinstance(error, TryLater):
        error.unanswered = False
    return error


def _later(now: float, seconds: object) -> float | None:
    return now + seconds if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else None


def _held_too_long() -> TryLater:
    return TryLater("Another process is still renewing the Zendesk token.", wait=15.0, facts=_FACTS)
