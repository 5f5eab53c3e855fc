"""What a token must be allowed to do: which scopes this package uses, and whether a token has them.

Asked by onboarding before it makes anything, and by the doctor.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.zendesk.client import ZendeskClient

# https://developer.zendesk.com/documentation/api-basics/authentication/creating-and-using-oauth-tokens-with-the-api/
_RESOURCES = (
    "tickets", "users", "organizations", "auditlogs", "hc", "apps", "triggers", "automations", "targets", "webhooks",
    "macros", "requests", "satisfaction_ratings", "dynamic_content", "any_channel", "web_widget",
)  # fmt: skip
KNOWN_SCOPES = (
    "read",
    "write",
    "impersonate",
    *(f"{name}:{right}" for name in _RESOURCES for right in ("read", "write")),
)
NEEDED_SCOPES = (
    "users:read", "users:write", "organizations:read", "organizations:write", "tickets:read", "webhooks:read",
    "webhooks:write", "triggers:read", "triggers:write",
)  # fmt: skip
"""What this package uses; `read` and `write` hold them all."""

TICKET_WRITE = "tickets:write"
"""What setting the organization of tickets needs beside those, and nothing else does."""


def needed_scopes(set_ticket_organization: bool) -> tuple[str, ...]:
    """The scopes that an account with that setting needs."""
    return (*NEEDED_SCOPES, TICKET_WRITE) if set_ticket_organization else NEEDED_SCOPES


def granted_scopes(client: ZendeskClient) -> set[str]:
    """What the token in use was given. An API token has none, and may do all that its user may."""
    return {str(name) for name in client.tokens.current().get("scopes") or ()}


def lacking_scopes(granted: Collection[str], needed: Sequence[str]) -> list[str]:
    """Which of the `needed` scopes neither stand in `granted` nor are held by a broad one that does."""
    return [name for name in needed if not {name, name.partition(":")[2]} & set(granted)]


def refused_path(client: ZendeskClient, granted: Collection[str], now: float) -> str:
    """The first path that narrow scopes turn out not to cover; empty if they do, or are not narrow.

    Which of them cover exports and jobs is not documented, so both are asked for once.
    """
    if {"read", "write"} <= set(granted):
        return ""
    try:
        client.jobs.list_open()
        client.exports.users(start_time=now - 120)
    except FixFirst as error:
        if error.facts.status != 403:
            raise
        return error.facts.path
    return ""


def require_access(client: ZendeskClient, needed: Sequence[str], now: float, *, scoped: bool) -> str:
    """Whom Zendesk knows us as, if that is an admin whose token has the `needed` scopes. FixFirst if not.

    `scoped` is false for an API token.
    """
    me = client.users.me()
    if me.get("role") != "admin":
        raise FixFirst(
            f"Zendesk knows us as {me.get('name')}, who is no admin.",
            advice="Let an admin make the OAuth client, or give the consent: only admins keep webhooks, triggers "
            "and fields.",
        )
    if not scoped:
        return str(me.get("name"))
    granted = granted_scopes(client)
    spelt, advice = " ".join(sorted(granted)) or "nothing", "Set `scope` to `read write` in the connection's extra."
    if lacking := lacking_scopes(granted, needed):
        raise FixFirst(f"The token may {spelt}; it lacks {', '.join(lacking)}.", advice=advice)
    if path := refused_path(client, granted, now):
        raise FixFirst(f"The token may {spelt}, but not {path}.", advice=advice)
    return str(me.get("name"))
