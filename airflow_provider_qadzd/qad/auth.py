"""Signing in to QAD: one `requests` authentication for the whole provider, with its own answer to a 401.

It promises that credentials go to the QAD base URL alone and never stand in a URL, a repr, a log or an error; that
parallel workers log in once, because the token is kept in a shared `TokenStore` under a lease (QAD's sessions are
licensed); and that a session that has lapsed costs one new login and one repetition of the request, never a loop.
"""

from __future__ import annotations

import base64
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import requests
from requests.auth import AuthBase

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.qad import browse
from airflow_provider_qadzd.qad.http import failed, header, received
from airflow_provider_qadzd.records import Clock, Lease, SystemClock, Token, TokenStore, digest

MODES = ("oauth_password", "basic", "bearer", "cookie")

_SIGN_IN_PATHS = {"oauth_password": "/oauth/token", "cookie": "/api/login"}
"""Where the modes that sign in for something to keep do so, below the base URL."""
_COOKIE = "JSESSIONID"

# QAD itself renews minutes before a session lapses; a clock that is a little off must not cost a 401 per request.
_MARGIN = 30.0
_LEASE_POLL = 0.5
_LARGEST_LOGIN = 2**20


@dataclass(frozen=True, slots=True)
class Login:
    """Who signs in, where and how. `password` is the token itself with `bearer`. Times are seconds.

    `base_url` is normalised: https, context root, no trailing slash. `token_path` is empty for the mode's usual one.
    `token_ttl` is the life of a token where QAD does not tell `expires_in`. `verify` is as in `requests`: True, or the
    path of a CA bundle.
    """

    base_url: str
    username: str = ""
    password: str = field(default="", repr=False)
    mode: str = "oauth_password"
    client_id: str = ""
    token_path: str = ""
    token_ttl: float = 1200.0
    timeout: float = 60.0
    verify: bool | str = True
    where: str = "the QAD connection"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise FixFirst(f"{self.where}: auth {self.mode!r} is not known.", advice=f"Use {', '.join(MODES)}.")
        needed = {"password": self.password}
        if self.mode != "bearer":
            needed["login"] = self.username
        if self.mode == "oauth_password":
            needed["client_id"] = self.client_id
        for name, value in needed.items():
            if not value:
                raise FixFirst(f"{self.where}: {name} is missing.", advice=f"{self.mode} needs it.")
        if self.token_path and (not self.token_path.startswith("/") or "?" in self.token_path):
            raise FixFirst(f"{self.where}: token_path must start with / and have no query.")

    @property
    def sign_in_path(self) -> str:
        """Where to sign in, below the base URL; empty for the modes that sign every request by themselves."""
        usual = _SIGN_IN_PATHS.get(self.mode, "")
        return usual and (self.token_path or usual)

    @property
    def credential(self) -> str:
        """The name under which this login's token is kept: instance, way, client and user, so a re-pointed connection
        never presents its old token to the new instance."""
        return "qad:" + digest(self.base_url, self.mode, self.sign_in_path, self.client_id, self.username)[:32]


class QadAuth(AuthBase):
    """Signs each request, and answers a session that has lapsed with one new login and one repetition.

    `session` carries the login request; it may be the session that this object authenticates.
    """

    def __init__(
        self, login: Login, session: requests.Session, tokens: TokenStore | None = None, clock: Clock | None = None
    ) -> None:  # fmt: skip
        if login.sign_in_path and tokens is None:
            raise FixFirst(f"{login.where}: {login.mode} needs a place to keep its token.")
        self._login, self._session, self._tokens = login, session, tokens
        self._clock: Clock = clock or SystemClock()
        self._owner = uuid.uuid4().hex
        self._token: Token | None = None

    def __repr__(self) -> str:
        return f"QadAuth({self._login.mode!r}, {self._login.where!r})"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if not (request.url or "").startswith(self._login.base_url + "/"):
            raise FixFirst(f"{self._login.where}: its credentials are not sent outside its base URL.")
        self._sign(request)
        if self._login.sign_in_path:
            request.register_hook("response", self._on_answer)  # type: ignore[no-untyped-call]
        return request

    def _sign(self, request: requests.PreparedRequest, *, refused: str = "") -> None:
        login = self._login
        if login.mode == "basic":
            pair = base64.b64encode(f"{login.username}:{login.password}".encode()).decode("ascii")
            request.headers["Authorization"] = f"Basic {pair}"
        elif login.mode == "cookie":
            request.headers["Cookie"] = _with_session(request, self._access(refused))
        else:
            access = login.password if login.mode == "bearer" else self._access(refused)
            request.headers["Authorization"] = f"Bearer {access}"

    def _on_answer(self, answer: requests.Response, **kwargs: Any) -> requests.Response:
        """A session may lapse by idleness at any time: first it means "log in again", the second time "fix it"."""
        if not self._lapsed(answer):
            return answer
        answer.close()
        again = answer.request.copy()
        self._sign(again, refused=_access_in(answer.request))
        second: requests.Response = answer.connection.send(again, **kwargs)
        second.history.append(answer)
        second.request = again
        return second

    def _lapsed(self, answer: requests.Response) -> bool:
        """401; to a cookie that it no longer knows, QAD answers as to a browser, with its login page."""
        if answer.status_code == 401 or self._login.mode != "cookie":
            return answer.status_code == 401
        page = answer.status_code == 200 and header(answer.headers, "Content-Type").startswith("text/html")
        return page or "login" in header(answer.headers, "Location").lower()

    # --- The token ---

    def _access(self, refused: str) -> str:
        """An access token that has not lapsed and is not `refused`; one process logs in, the others wait for it."""
        if self._token and self._usable(self._token, refused):
            return self._token.access
        tokens, name = self._store(), self._login.credential
        # Long enough for a refresh that times out and a login after it.
        seconds = 2 * (self._login.timeout + 10.0)
        give_up = self._clock.time() + seconds
        while self._clock.time() < give_up:
            kept = tokens.read(name)
            if kept and self._usable(kept, refused):
                self._token = kept
                return kept.access
            lease = tokens.lease(name, self._owner, kept.version if kept else 0, seconds)
            fresh = self._renewed(lease, kept, refused) if lease else None
            if fresh:
                self._token = fresh
                return fresh.access
            self._clock.sleep(_LEASE_POLL)
        raise TryLater("Another worker is signing in to QAD and has not finished.", wait=30.0, facts=self._facts())

    def _store(self) -> TokenStore:
        if self._tokens is None:  # the constructor refuses this
            raise FixFirst(f"{self._login.where}: {self._login.mode} needs a place to keep its token.")
        return self._tokens

    def _usable(self, token: Token, refused: str) -> bool:
        lapsed = token.expires_at is not None and token.expires_at - _MARGIN <= self._clock.time()
        return bool(token.access) and token.access != refused and not lapsed

    def _renewed(self, lease: Lease, kept: Token | None, refused: str) -> Token | None:
        """A new token, saved; None if a newer one is already there. The lease ends in every case."""
        tokens = self._store()
        try:
            # A refused token ends its whole QAD session: only a lapsed one is worth refreshing.
            refresh = kept.refresh if kept and kept.access != refused else None
            fresh = (self._refreshed(refresh) if refresh else None) or self._logged_in()
        except BaseException:
            tokens.release(lease)
            raise
        return fresh if tokens.save(lease, fresh) else None

    def _refreshed(self, refresh: str) -> Token | None:
        """None where QAD no longer takes the refresh token, however it says so: the password is the way on."""
        try:
            return self._granted({"grant_type": "refresh_token", "refresh_token": refresh})
        except QadzdError:
            return None

    def _logged_in(self) -> Token:
        login = self._login
        if login.mode == "cookie":
            body = self._posted(json={"username": login.username, "password": login.password})
            return self._token_from(body, "sessionId")
        return self._granted({"grant_type": "password", "username": login.username, "password": login.password})

    # QAD takes the parameters in the query as well; the body keeps them out of access logs.
    # Neither a client secret nor an Authorization header goes along.
    def _granted(self, form: Mapping[str, str]) -> Token:
        return self._token_from(self._posted(data={"client_id": self._login.client_id, **form}), "access_token")

    def _posted(self, **body: Any) -> dict[str, Any]:
        """What QAD answers to a login."""
        login, facts = self._login, self._facts()
        try:
            answer = received(
                self._session.post(
                    login.base_url + login.sign_in_path, headers={"Accept": "application/json"}, auth=unsigned,
                    allow_redirects=False, timeout=(10.0, login.timeout), verify=login.verify, stream=True, **body,
                ),
                _LARGEST_LOGIN,
            )  # fmt: skip
        except requests.RequestException as error:
            raise failed(error, login.where, facts) from None
        if answer.status in (400, 401):
            facts = replace(facts, status=answer.status, code=browse.vendor_code(answer.body))
            needed = "login, password and client_id" if login.mode == "oauth_password" else "login and password"
            raise FixFirst("QAD refused the login.", advice=f"Check {needed} of {login.where}.", facts=facts)
        return browse.json_answer(answer, facts, login.where, self._clock.time())

    def _token_from(self, body: Mapping[str, Any], name: str) -> Token:
        access, refresh = body.get(name), body.get("refresh_token")
        if not isinstance(access, str) or not access:
            advice = f"Check token_path of {self._login.where}."
            raise FixFirst(
                f"QAD's login answer holds no {name}.", advice=advice, facts=replace(self._facts(), status=200)
            )
        life = _seconds(body.get("expires_in")) or self._login.token_ttl
        return Token(access, refresh if isinstance(refresh, str) else None, self._clock.time() + life)

    def _facts(self) -> Facts:
        return Facts(system="qad", method="POST", path=self._login.sign_in_path)


def unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No authentication: also keeps `requests` from taking one out of a .netrc file."""
    return request


def _with_session(request: requests.PreparedRequest, session_id: str) -> str:
    """The request's cookies with this session's instead of any other's: a load balancer may have set some as well."""
    others = [one for one in _cookies(request) if not one.startswith(f"{_COOKIE}=")]
    return "; ".join([*others, f"{_COOKIE}={session_id}"])


def _cookies(request: requests.PreparedRequest) -> list[str]:
    return [one.strip() for one in str(request.headers.get("Cookie", "")).split(";") if one.strip()]


def _access_in(request: requests.PreparedRequest) -> str:
    """The token or session id that the request was signed with."""
    cookie = next((one for one in _cookies(request) if one.startswith(f"{_COOKIE}=")), "")
    bearer = str(request.headers.get("Authorization", "")).removeprefix("Bearer ")
    return bearer or cookie.removeprefix(f"{_COOKIE}=")


def _seconds(value: object) -> float:
    """`expires_in` as seconds; 0.0 where it is missing or no number."""
    try:
        seconds = float(str(value))
    except ValueError:
        return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
