"""OAuth of the simulated Zendesk: consent that is given at once, three grants, rotation, revocation.

https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
https://developer.zendesk.com/api-reference/ticketing/oauth/oauth_tokens/
The one client is `sandbox` with secret `sandbox`; every token acts as the account's administrator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from ..clock import iso
from ..web import Call, Refusal, Reply, refuse, reply_json

if TYPE_CHECKING:
    from ..state import State
    from .tokens import Grant

CLIENT_ID = "sandbox"
CLIENT_SECRET = "sandbox"
CLIENT_NUMBER = 360000440001


def _authorize(state: State, call: Call) -> Reply:
    query = call.query
    redirect_uri = query.get("redirect_uri", "")
    if query.get("client_id") != CLIENT_ID:
        raise oauth_error(400, "invalid_client", "The client is unknown.")
    if not redirect_uri.startswith(("http://", "https://")) or query.get("response_type") != "code":
        raise oauth_error(400, "invalid_request", "response_type must be code and redirect_uri must be absolute.")
    allowed = state.settings.redirect_uris
    if allowed is not None and redirect_uri not in allowed:
        raise oauth_error(400, "invalid_request", "The redirect_uri is not one of the client's.")
    if query.get("code_challenge") and query.get("code_challenge_method") != "S256":
        raise oauth_error(400, "invalid_request", "code_challenge_method must be S256.")
    if state.settings.deny_authorization:
        answer = {"error": "access_denied", "error_description": "The end-user denied the authorization request."}
    else:
        scope = query.get("scope", "read")
        code = state.tokens.new_code(redirect_uri, scope, query.get("code_challenge") or None, state.now)
        answer = {"code": code}
    if "state" in query:
        answer["state"] = query["state"]
    glue = "&" if "?" in redirect_uri else "?"
    return Reply(302, headers={"Location": f"{redirect_uri}{glue}{urlencode(answer)}"})


def _token(state: State, call: Call) -> Reply:
    form = body_fields(call)
    kind = form.get("grant_type")
    grants = {"authorization_code": _from_code, "refresh_token": _from_refresh, "client_credentials": _from_client}
    if not isinstance(kind, str) or kind not in grants:
        raise oauth_error(400, "unsupported_grant_type", "The authorization grant type is not supported.")
    if form.get("client_id") != CLIENT_ID or form.get("client_secret", CLIENT_SECRET) != CLIENT_SECRET:
        raise oauth_error(401, "invalid_client", "Client authentication failed.")
    grant = grants[kind](state, form)
    answer = {
        "access_token": grant.access,
        "refresh_token": grant.refresh,
        "token_type": "bearer",
        "scope": grant.scope,
        "expires_in": round(grant.expires - grant.created),
        "refresh_token_expires_in": round(grant.refresh_expires - grant.created) if grant.refresh else None,
    }
    shown: dict[str, Any] = {name: value for name, value in answer.items() if value is not None}
    if state.settings.token_expiry == "null":
        shown["expires_in"] = None
    if state.settings.token_expiry == "absent":
        del shown["expires_in"]
    return reply_json(shown)


def _from_code(state: State, form: dict[str, Any]) -> Grant:
    if "client_secret" not in form and "code_verifier" not in form:
        raise oauth_error(401, "invalid_client", "Client authentication failed.")
    code = state.tokens.take_code(str(form.get("code")), form.get("redirect_uri"), form.get("code_verifier"), state.now)
    if code is None:
        raise invalid_grant()
    return _grant(state, form, str(form.get("scope") or code.scope), with_refresh=True)


def _from_refresh(state: State, form: dict[str, Any]) -> Grant:
    old = state.tokens.take_refresh(str(form.get("refresh_token")), state.now)
    if old is None:
        raise invalid_grant()
    return _grant(state, form, str(form.get("scope") or old.scope), with_refresh=True)


def _from_client(state: State, form: dict[str, Any]) -> Grant:
    if "client_secret" not in form:
        raise oauth_error(401, "invalid_client", "Client authentication failed.")
    scope = form.get("scope")
    return _grant(state, form, scope if isinstance(scope, str) else "", with_refresh=False)


def _grant(state: State, form: dict[str, Any], scope: str, with_refresh: bool) -> Grant:
    settings = state.settings
    ttl = float(form.get("expires_in") or settings.token_ttl)
    if "expires_in" in form and not 300 <= ttl <= 172800:
        raise oauth_error(400, "invalid_request", "expires_in must lie between 300 and 172800 seconds.")
    refresh_ttl = float(form.get("refresh_token_expires_in") or settings.refresh_token_ttl) if with_refresh else None
    return state.tokens.grant(scope, state.now, ttl, refresh_ttl)


def _current(state: State, call: Call) -> Reply:
    grant = state.tokens.find(call.token, state.now)
    if grant is None:
        raise invalid_token()
    token = {
        "id": grant.id,
        "url": state.zendesk.url("oauth/tokens", grant.id),
        "client_id": CLIENT_NUMBER,
        "user_id": state.zendesk.admin_id,
        "token": grant.access[:10],
        "scopes": grant.scope.split(),
        "created_at": iso(grant.created),
        "used_at": iso(state.now),
        "expires_at": iso(grant.expires) if state.settings.token_expiry == "told" else None,
    }
    if grant.refresh:
        token["refresh_token"] = grant.refresh[:10]
        token["refresh_token_expires_at"] = iso(grant.refresh_expires)
    return reply_json({"token": token})


def _revoke(state: State, call: Call) -> Reply:
    state.tokens.revoke(call.token)
    return Reply(204)


def body_fields(call: Call) -> dict[str, Any]:
    """The fields of a JSON or a form body."""
    if "json" in call.headers.get("content-type", ""):
        return call.json()
    return dict(parse_qsl(call.raw.decode(errors="replace"), keep_blank_values=True))


def oauth_error(status: int, code: str, text: str) -> Refusal:
    """An error in the OAuth envelope."""
    return refuse(status, {"error": code, "error_description": text})


def invalid_grant() -> Refusal:
    """A code or refresh token that is dead: clients may branch on `error` alone."""
    return oauth_error(
        400, "invalid_grant", "The provided access grant is invalid, expired, or revoked (e.g. invalid code)."
    )


def invalid_token() -> Refusal:
    """A bearer token that is dead."""
    text = "The access token provided is expired, revoked, malformed or invalid for other reasons."
    return refuse(
        401, {"error": "invalid_token", "error_description": text}, WWW_Authenticate='Bearer error="invalid_token"'
    )


OPEN_ROUTES = [
    ("GET", "/oauth/authorizations/new", _authorize),
    ("POST", "/oauth/tokens", _token),
]
ROUTES = [
    ("GET", "/api/v2/oauth/tokens/current", _current),
    ("DELETE", "/api/v2/oauth/tokens/current", _revoke),
]
