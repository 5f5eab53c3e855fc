"""What a webhook carries: the signed event of a ticket, or the body that a trigger was given.

https://developer.zendesk.com/api-reference/webhooks/event-types/ticket-events/
https://developer.zendesk.com/api-reference/ticketing/business-rules/triggers/
"""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..clock import iso, iso_millis
from .models import STATUS_IDS

if TYPE_CHECKING:
    from ..state import State
    from .models import Ticket

ACCOUNT_ID = 21000042
TEST_SECRET = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
UNSEEN_BY_TRIGGERS = {"soft_deleted", "permanently_deleted", "undeleted", "merged", "marked_as_spam"}
PLACEHOLDER = re.compile(r"\{\{\s*ticket\.([a-z_.]+)\s*\}\}")


def ulid(now: float) -> str:
    """An id that sorts by time, as webhooks and invocations have."""
    value = (int(now * 1000) << 80) | secrets.randbits(80)
    return "".join(ALPHABET[(value >> (5 * place)) & 31] for place in range(25, -1, -1))


def payload(state: State, row: Ticket, name: str, before: dict[str, Any]) -> tuple[str, bytes]:
    """An event's unique id and its body: pretty-printed, ids as strings, words in capitals."""
    event_id = str(uuid.uuid4())
    body = {
        "account_id": ACCOUNT_ID,
        "detail": detail(state, row),
        "event": what_changed(row, name, before),
        "id": event_id,
        "subject": f"zen:ticket:{row.id}",
        "time": iso_millis(state.now),
        "type": f"zen:event-type:ticket.{name}",
        "zendesk_event_version": "2022-11-06",
    }
    return event_id, json.dumps(body, indent=2).encode() + b"\n"


def detail(state: State, row: Ticket) -> dict[str, Any]:
    """The ticket as an event shows it."""
    return {
        "actor_id": str(state.zendesk.admin_id),
        "assignee_id": text_or_none(row.assignee_id),
        "brand_id": text_or_none(row.brand_id),
        "created_at": row.created_at,
        "custom_status": text_or_none(row.custom_status_id),
        "description": row.description,
        "external_id": row.external_id,
        "form_id": text_or_none(row.ticket_form_id),
        "group_id": text_or_none(row.group_id),
        "id": str(row.id),
        "is_public": row.is_public,
        "organization_id": text_or_none(row.organization_id),
        "priority": row.priority.upper() if row.priority else None,
        "requester_id": str(row.requester_id),
        "status": row.status.upper(),
        "subject": row.subject,
        "submitter_id": str(row.submitter_id),
        "tags": row.tags,
        "type": row.type.upper() if row.type else None,
        "updated_at": row.updated_at,
        "via": {"channel": str(row.via.get("channel", "web")).lower()},
    }


def what_changed(row: Ticket, name: str, before: dict[str, Any]) -> dict[str, Any]:
    """The `event` part: current and previous value, empty for a creation."""
    keys = {"status_changed": "status", "organization_changed": "organization_id", "requester_changed": "requester_id"}
    key = keys.get(name, name.removesuffix("_changed"))
    if name in ("created", "merged", "soft_deleted", "undeleted", "permanently_deleted") or key not in before:
        return {}
    upper = key in ("status", "priority", "type")
    current, previous = getattr(row, key), before[key]
    if upper:
        return {"current": str(current).upper() if current else None, "previous": str(previous or "").upper() or None}
    if isinstance(current, list):
        return {"current": current, "previous": previous}
    return {"current": text_or_none(current), "previous": text_or_none(previous)}


def text_or_none(value: Any) -> str | None:
    """Events write every id as text."""
    return None if value is None else str(value)


def triggered(
    state: State, row: Ticket, before: dict[str, Any], names: list[str]
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The webhooks that active triggers call for this change, each with its filled-in body."""
    if not names or UNSEEN_BY_TRIGGERS & set(names):
        return
    created = "created" in names
    for trigger in state.zendesk.triggers.values():
        if not trigger["active"] or not matches(trigger["conditions"], row, before, created):
            continue
        for action in trigger["actions"]:
            if action.get("field") != "notification_webhook":
                continue
            webhook_id, text = (*list(action.get("value") or []), "", "")[:2]
            webhook = state.zendesk.webhooks.get(str(webhook_id))
            ready = webhook is not None and webhook["status"] == "active"
            if webhook is not None and ready and "conditional_ticket_events" in webhook["subscriptions"]:
                yield webhook, fill(state, row, str(text))


def matches(conditions: dict[str, Any], row: Ticket, before: dict[str, Any], created: bool) -> bool:
    """All of `all`, and any of `any` if there are some."""
    every, some = conditions.get("all") or [], conditions.get("any") or []
    if not all(holds(condition, row, before, created) for condition in every):
        return False
    return not some or any(holds(condition, row, before, created) for condition in some)


def holds(condition: dict[str, Any], row: Ticket, before: dict[str, Any], created: bool) -> bool:
    """One condition; a field that the sandbox does not know never holds."""
    field, operator, value = condition.get("field"), condition.get("operator"), condition.get("value")
    if field == "update_type":
        return (value == "Create") == created
    if not isinstance(field, str) or field not in ("status", "priority", "type", "organization_id", "requester_id"):
        return False
    current = text_or_none(getattr(row, field))
    changed = created or field in before
    previous = None if created else text_or_none(before.get(field, getattr(row, field)))
    rank = STATUS_IDS.get(str(current), 0) - STATUS_IDS.get(str(value), 0)
    answers = {
        "is": current == str(value),
        "is_not": current != str(value),
        "less_than": rank < 0,
        "greater_than": rank > 0,
        "changed": changed,
        "not_changed": not changed,
        "value": changed and current == str(value),
        "not_value": not (changed and current == str(value)),
        "value_previous": changed and previous == str(value),
        "not_value_previous": not (changed and previous == str(value)),
    }
    return answers.get(str(operator), False)


def fill(state: State, row: Ticket, text: str) -> bytes:
    """A trigger's body with its placeholders replaced, raw, without any escaping."""
    requester = state.zendesk.users.get(row.requester_id)
    values = {
        "id": row.id,
        "status": row.status,
        "title": row.subject,
        "description": row.description,
        "external_id": row.external_id or "",
        "updated_at": row.updated_at,
        "created_at_with_timestamp": row.created_at,
        "updated_at_with_timestamp": row.updated_at,
        "requester.id": row.requester_id,
        "requester.email": requester.email if requester is not None else "",
        "organization.id": row.organization_id or "",
        "timestamp": iso(state.now),
    }
    return PLACEHOLDER.sub(lambda found: str(values.get(found[1], "")), text).encode()
