"""OAuth with Zendesk: the addresses and bodies it takes, and the Authorization header on every call.

The builders are pure. `ZendeskAuth` asks its credentials for a header and answers a 401 with one renewal and one
repetition; what keeps a token valid is `tokens`. No secret is ever part of a repr, a log, an address or an error.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import urlencode, urlsplit

import requests
from requests.auth import AuthBase

from airflow_provider_qadzd.errors import Facts, FixFirst
from airflow_provider_qadzd.zendesk.wire import error_from


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

    @property
    def where(self) -> str:
        """Where they come from, for errors: `connection zendesk_default`."""

    @property
    def advice(self) -> str:
        """What a person has to do once Zendesk accepts none of their values."""

    def header(self) -> str:
        """The header's value, valid now."""

    def after_401(self, refused: str) -> str | None:
        """Another value in place of `refused`, or None if there is no other."""


class ZendeskAuth(AuthBase):
    """Puts the Authorization header on requests to `base_url`, and on a 401 renews it and repeats, once.

    A second 401 is FixFirst with the credentials' own advice. A request to any other address is refused before it is
    sent: the header is for Zendesk alone.
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
        _ = answer.content  # read to its end, so that the connection can be used again
        answer.close()
        refused = str(answer.request.headers.get("Authorization"))
        fresh = self._credentials.after_401(refused)
        if fresh is None or fresh == refused:
            raise self._refusal(answer)
        again = answer.request.copy()
        again.headers["Authorization"] = fresh
        # Straight to the adapter, which runs no hooks: there is no third try.
        second: requests.Response = answer.connection.send(again, **options)
        second.request = again
        second.history.append(answer)
        if second.status_code == 401:
            raise self._refusal(second)
        return second

    def _refusal(self, answer: requests.Response) -> FixFirst:
        method, path = answer.request.method or "", urlsplit(answer.request.url or "").path
        facts = error_from(401, answer.headers, answer.content, method, path).facts
        what = f"{self._credentials.where}: Zendesk does not accept the credentials."
        return FixFirst(what, advice=self._credentials.advice, facts=facts)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


# https://developer.zendesk.com/documentation/api-basics/authentication/oauth-migration/
@dataclass(frozen=True, slots=True)
class ApiToken:
    """An API token: the old way in, without scopes. Zendesk ends it on 2027-04-30."""

    email: str
    token: str = field(repr=False)
    where: str = "the Zendesk connection"

    @property
    def advice(self) -> str:
        """They may be wrong, or API tokens be switched off."""
        return (
            "Check the connection's login (an agent's email) and password (the API token), and that Zendesk's Admin "
            "Center allows API tokens; or set auth to client_credentials."
        )

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
