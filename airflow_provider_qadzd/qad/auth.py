"""Signing in to QAD: one `requests` authentication for the whole provider, with its own answer to a 401.

It promises that credentials go to the QAD base URL alone and never stand in a URL, a repr, a log or an error; that
parallel workers log in once, because the token is kept in a shared `TokenStore` under a lease; and that a 401 costs
one new login and one repetition of the request, never a loop.
"""

from __future__ import annotations

import base64
import ipaddress
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.qad import browse
from airflow_provider_qadzd.records import Clock, Lease, SystemClock, Token, TokenStore, digest

MODES = ("oauth_password", "basic", "bearer")

# QAD itself renews minutes before a session lapses; a clock that is a little off must not cost a 401 per request.
_MARGIN = 30.0
_LEASE_POLL = 0.5
_TRANSPORT = (
    requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Login:
    """Who signs in, where and how. `password` is the token itself with `bearer`. Times are seconds.

    `base_url` is normalised: https, context root, no trailing slash. `token_ttl` is the life of a token where QAD does
    not tell `expires_in`. `verify` is as in `requests`: True, or the path of a CA bundle.
    """

    base_url: str
    username: str = ""
    password: str = field(default="", repr=False)
    mode: str = "oauth_password"
    client_id: str = ""
    token_path: str = "/oauth/token"
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
        if not self.token_path.startswith("/") or "?" in self.token_path:
            raise FixFirst(f"{self.where}: token_path must start with / and have no query.")

    @property
    def credential(self) -> str:
        """The name under which this login's token is kept: instance, client and user, so a re-pointed connection
        never presents its old token to the new instance."""
        return "qad:" + digest(self.base_url, self.token_path, self.client_id, self.username)[:32]


class QadAuth(AuthBase):
    """Adds the Authorization header, and answers a 401 with one new login and one repetition.

    `session` carries the login request; it may be the session that this object authenticates.
    """

    def __init__(
        self, login: Login, session: requests.Session, tokens: TokenStore | None = None, clock: Clock | None = None
    ) -> None:  # fmt: skip
        if login.mode == "oauth_password" and tokens is None:
            raise FixFirst(f"{login.where}: oauth_password needs a place to keep its token.")
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
        if self._login.mode == "oauth_password":
            request.register_hook("response", self._on_answer)  # type: ignore[no-untyped-call]
        return request

    def _sign(self, request: requests.PreparedRequest, *, refused: str = "") -> str:
        if self._login.mode == "basic":
            pair = f"{self._login.username}:{self._login.password}".encode()
            request.headers["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
            return ""
        access = self._login.password if self._login.mode == "bearer" else self._access(refused)
        request.headers["Authorization"] = f"Bearer {access}"
        return access

    def _on_answer(self, answer: requests.Response, **kwargs: Any) -> requests.Response:
        """A token may lapse by idleness at any time, so a 401 first means "log in again", and the second "fix it"."""
        if answer.status_code != 401:
            return answer
        _ = answer.content  # read to its end, so that the connection can be used again
        answer.close()
        again = answer.request.copy()
        self._sign(again, refused=_bearer_in(answer.request))
        second: requests.Response = answer.connection.send(again, **kwargs)
        second.history.append(answer)
        second.request = again
        return second

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
            raise FixFirst(f"{self._login.where}: oauth_password needs a place to keep its token.")
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
        """None where QAD no longer takes the refresh token: the password grant is the way on."""
        try:
            return self._asked_for({"grant_type": "refresh_token", "refresh_token": refresh})
        except FixFirst:
            return None

    def _logged_in(self) -> Token:
        login = self._login
        return self._asked_for({"grant_type": "password", "username": login.username, "password": login.password})

    # QAD takes the parameters in the query as well; the body keeps them out of access logs.
    # Neither a client secret nor an Authorization header goes along.
    def _asked_for(self, form: Mapping[str, str]) -> Token:
        login, facts = self._login, self._facts()
        try:
            answer = self._session.post(
                login.base_url + login.token_path, data={"client_id": login.client_id, **form},
                headers={"Accept": "application/json"}, auth=_unsigned, allow_redirects=False,
                timeout=(10.0, login.timeout), verify=login.verify,
            )  # fmt: skip
        except requests.RequestException as error:
            raise failed(error, login.where, facts) from None
        return self._token_in(answer, facts)

    def _token_in(self, answer: requests.Response, facts: Facts) -> Token:
        login, now = self._login, self._clock.time()
        if answer.status_code in (400, 401):
            code = browse.vendor_code(answer.content)
            facts = Facts(facts.system, facts.method, facts.path, answer.status_code, code)
            advice = f"Check login, password and client_id of {login.where}."
            raise FixFirst("QAD refused the login.", advice=advice, facts=facts)
        read = browse.Answer(answer.status_code, answer.headers, answer.content)
        body = browse.json_answer(read, facts, login.where, now)
        access = body.get("access_token")
        if not isinstance(access, str) or not access:
            raise FixFirst("QAD's login answer holds no access token.", advice="Check token_path.", facts=facts)
        refresh = body.get("refresh_token")
        life = _seconds(body.get("expires_in")) or login.token_ttl
        return Token(access, refresh if isinstance(refresh, str) else None, now + life)

    def _facts(self) -> Facts:
        return Facts(system="qad", method="POST", path=self._login.token_path)


def normalised_base_url(text: str, allow_http: bool, where: str = "the QAD connection") -> str:
    """`text` as the one spelling of a QAD instance: https, lower-case host, context root, no slash at the end.

    Plain http is for this machine, or where `allow_http` says so. Errors never repeat the text, which may hold secrets.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise FixFirst(f"{where}: the base URL cannot be read.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise FixFirst(f"{where}: the base URL needs a scheme and a host.", advice="Write https://host/clouderp.")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise FixFirst(f"{where}: the base URL holds credentials.", advice="Put them into login and password.")
    if "?" in text or "#" in text:
        raise FixFirst(f"{where}: the base URL has a query or a fragment.", advice="End it with the context root.")
    if parts.scheme == "http" and not allow_http and not _is_this_machine(host):
        raise FixFirst(f"{where}: the base URL is not https.", advice="Use https, or set allow_http knowingly.")
    default = {"http": 80, "https": 443}[parts.scheme]
    named = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{named}{'' if port in (None, default) else f':{port}'}{parts.path.rstrip('/')}"


def verification(verify: str, allow_http: bool, where: str) -> bool | str:
    """`verify` as `requests` takes it. Unverified certificates are for those who accept plain http as well."""
    word = verify.strip().lower()
    if word in ("true", "1", "yes"):
        return True
    if word in ("false", "0", "no"):
        if allow_http:
            return False
        raise FixFirst(f"{where}: verify is off.", advice="Give the CA's file, or set allow_http too, knowingly.")
    return verify


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_passing(error: BaseException) -> bool:
    """Whether a request failed on the way, so that the same request may well succeed later."""
    return isinstance(error, _TRANSPORT) and not isinstance(error, requests.exceptions.SSLError)


def failed(error: requests.RequestException, where: str, facts: Facts) -> QadzdError:
    """`error` by what to do next; its own text, which holds addresses and parameters, stays behind."""
    if is_passing(error):
        advice = f"If this lasts: check the host of {where}."
        return TryLater("QAD does not answer.", wait=60.0, advice=advice, facts=facts)
    if isinstance(error, requests.exceptions.SSLError):
        advice = f"Set `verify` of {where} to the file of the CA that signed it."
        return FixFirst("QAD's certificate cannot be verified.", advice=advice, facts=facts)
    what = f"The request could not be made ({type(error).__name__})."
    return FixFirst(what, advice=f"Check the settings of {where}.", facts=facts)


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No authentication: also keeps `requests` from taking one out of a .netrc file."""
    return request


def _bearer_in(request: requests.PreparedRequest) -> str:
    return str(request.headers.get("Authorization", "")).removeprefix("Bearer ")


def _seconds(value: object) -> float:
    """`expires_in` as seconds; 0.0 where it is missing or no number."""
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return 0.0
