"""Who may call: every request to the API passes here for its token, its scopes and the account's rate.

https://developer.zendesk.com/documentation/api-basics/authentication/creating-and-using-oauth-tokens-with-the-api/
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from ..web import Call, Handler, Refusal, Reply, refuse, reply_json
from .oauth import invalid_token
from .words import localised

if TYPE_CHECKING:
    from ..state import State

RESOURCES = [
    "tickets",
    "users",
    "organizations",
    "auditlogs",
    "hc",
    "apps",
    "triggers",
    "automations",
    "targets",
    "webhooks",
    "macros",
    "requests",
    "satisfaction_ratings",
    "dynamic_content",
    "any_channel",
    "web_widget",
]
KNOWN_SCOPES = frozenset(
    ["read", "write", "impersonate", *(f"{name}:{right}" for name in RESOURCES for right in ("read", "write"))]
)
SCOPE_OF = {
    "organizations": ("organizations",),
    "organization_memberships": ("organizations", "users"),
    "organization_fields": ("organizations",),
    "users": ("users",),
    "user_fields": ("users",),
    "tickets": ("tickets",),
    "ticket_events": ("tickets",),
    "webhooks": ("webhooks",),
    "triggers": ("triggers",),
    "organization_merges": ("organizations",),
}


def guard(state: State, call: Call, handler: Handler) -> Reply:
    """Identify the caller, check scope and rate, then answer; the rate's headers go on every answer."""
    if not _identified(state, call):
        return reply_json({"user": anonymous(state)})
    headers = state.limits.request()
    try:
        _check_scope(call)
        headers.update(_own_limit(state, call))
        reply = handler(state, call)
    except Refusal as refusal:
        reply = localised(refusal.reply, state.settings)
    reply.headers = {**headers, **reply.headers}
    return reply


def _own_limit(state: State, call: Call) -> dict[str, str]:
    """The limits that some paths have beside the account's."""
    if call.path.startswith("/api/v2/incremental/"):
        return state.limits.sample() if call.path.endswith("/sample") else state.limits.export()
    return state.limits.search_export() if call.path == "/api/v2/search/export" else {}


def _identified(state: State, call: Call) -> bool:
    """True for a live bearer token; False for an anonymous `users/me`; anything else is refused with 401."""
    kind, _, value = call.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        grant = state.tokens.find(value.strip(), state.now)
        if grant is None:
            raise invalid_token()
        call.token = grant.access
        call.user_id = state.zendesk.admin_id
        call.scopes = frozenset(grant.scope.split())
        return True
    if kind.lower() == "basic" and _is_api_token(state, value):
        call.user_id = state.zendesk.admin_id
        call.scopes = frozenset(("read", "write"))
        return True
    if call.path == "/api/v2/users/me":
        return False
    raise refuse(401, {"error": "Couldn't authenticate you"})


def _is_api_token(state: State, value: str) -> bool:
    token = state.settings.api_token
    if token is None:
        return False
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    admin = state.zendesk.users.rows[state.zendesk.admin_id]
    return text == f"{admin.email}/token:{token}"


def _check_scope(call: Call) -> None:
    right = "read" if call.method == "GET" else "write"
    if not call.scopes <= KNOWN_SCOPES:
        raise missing_scope(right)
    if right in call.scopes or "/oauth/" in call.path:
        return
    parts = call.path.removeprefix("/api/v2/").split("/")
    resource = parts[1] if parts[0] == "incremental" and len(parts) > 1 else parts[0]
    names = SCOPE_OF.get(resource)
    allowed = {f"{name}:{right}" for name in names} if names else {s for s in KNOWN_SCOPES if s.endswith(right)}
    if not allowed & call.scopes:
        raise missing_scope(right)


def missing_scope(right: str) -> Refusal:
    """403 for a token whose scopes do not cover the call."""
    text = f"You are missing the following required scopes: {right}"
    return refuse(403, {"error": "Forbidden", "description": text})


def anonymous(state: State) -> dict[str, Any]:
    """What `users/me` shows to a caller it does not know, with status 200."""
    return {
        "id": None,
        "url": f"{state.base_url}/api/v2/users/.json",
        "name": "Anonymous user",
        "email": "invalid@example.com",
        "created_at": None,
        "updated_at": None,
        "time_zone": "London",
        "phone": None,
        "locale_id": 1,
        "locale": "en-US",
        "organization_id": None,
        "role": "end-user",
        "verified": False,
        "external_id": None,
        "tags": [],
        "active": False,
        "suspended": False,
        "user_fields": {},
    }
