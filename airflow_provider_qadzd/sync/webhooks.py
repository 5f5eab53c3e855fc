"""Our webhook in a Zendesk account, and the triggers that drive it where it does not subscribe to events.

A webhook is ours if the ledger knows its id, or if it points to our receiver. Whatever else is there, even of our name,
is somebody else's: another installation may deliver from the same account. What subscribes wrongly cannot be mended in
Zendesk, so it is replaced: the new webhook is made switched off, its secret put into the vault, and only then does it
deliver; the old one goes last, its secret with it. So deliveries are doubled for a moment rather than refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from airflow_provider_qadzd.ledger.identity import Account
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import Row

Route = Literal["events", "triggers"]
"""How a ticket's change gets to the webhook: it subscribes to events itself, or triggers of the account call it."""

Became = Literal["made", "repaired", "kept"]

WEBHOOK_NAME = "QAD ticket events"
CONDITIONAL = "conditional_ticket_events"
"""The subscription of a webhook that triggers call. It excludes all others."""

# https://developer.zendesk.com/api-reference/webhooks/event-types/ticket-events/
EVENT_TYPES = tuple(
    f"zen:event-type:ticket.{name}"
    for name in (
        "created", "status_changed", "priority_changed", "type_changed", "subject_changed", "tags_changed",
        "custom_field_changed", "agent_assignment_changed", "group_assignment_changed", "requester_changed",
        "organization_changed", "external_id_changed", "merged", "soft_deleted", "permanently_deleted", "undeleted",
    )
)  # fmt: skip
"""The ticket events that the webhook subscribes to: all that move what the ledger keeps. Solved is a status change."""

_CONDITIONS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "created": [("update_type", "is", "Create")],
    "updated": [("update_type", "is", "Change"), ("status", "not_value", "solved")],
    "solved": [("status", "value", "solved")],
}
"""When each kind is told. `value` means "changed to": it fires once, where "is solved" would fire with each update."""


def webhook_path(account: Account) -> str:
    """Where the receiver takes the account's deliveries, below its public address."""
    return f"/qadzd/webhooks/zendesk/{account.slug}"


def endpoint_of(account: Account, public_url: str) -> str:
    """The whole address that Zendesk delivers to."""
    return public_url.rstrip("/") + webhook_path(account)


def our_webhook(listed: Iterable[Row], account: Account, public_url: str) -> Row | None:
    """The one that the ledger knows, else one that points to our receiver; None if there is neither."""
    there = {str(row["id"]): row for row in listed}
    known = there.get(account.webhook_id or "")
    endpoint = endpoint_of(account, public_url)
    return known or next((row for row in there.values() if row.get("endpoint") == endpoint), None)


def abandoned_webhooks(listed: Iterable[Row], webhook_id: str, endpoint: str) -> list[str]:
    """Webhooks of ours beside the one in use: what a run that was interrupted while it replaced one has left."""
    ours = [row for row in listed if row.get("name") == WEBHOOK_NAME and row.get("endpoint") == endpoint]
    return [str(row["id"]) for row in ours if str(row["id"]) != webhook_id]


def route_of(webhook: Row | None) -> Route | None:
    """How an existing webhook is told of changes."""
    if webhook is None:
        return None
    return "triggers" if CONDITIONAL in (webhook.get("subscriptions") or ()) else "events"


def lacking_events(webhook: Row) -> list[str]:
    """The events of ours that a webhook is not told of."""
    given = webhook.get("subscriptions") or ()
    return [name for name in EVENT_TYPES if name not in given]


def subscribes(webhook: Row, route: Route) -> bool:
    """Whether its subscriptions are those of the route. The kind cannot be changed once a webhook is there."""
    return route_of(webhook) == route and (route == "triggers" or not lacking_events(webhook))


def wanted_webhook(endpoint: str, route: Route) -> dict[str, Any]:
    """The webhook as it is made."""
    return {
        "name": WEBHOOK_NAME, "endpoint": endpoint, "http_method": "POST", "request_format": "json",
        "subscriptions": [CONDITIONAL] if route == "triggers" else list(EVENT_TYPES),
    }  # fmt: skip


def unlike(webhook: Row, endpoint: str) -> dict[str, Any]:
    """What of an existing webhook must be changed for it to deliver to us."""
    wanted = {"endpoint": endpoint, "http_method": "POST", "request_format": "json", "status": "active"}
    return {name: value for name, value in wanted.items() if webhook.get(name) != value}


# -- triggers ----------------------------------------------------------------------------------------------------------


# https://developer.zendesk.com/api-reference/ticketing/business-rules/triggers/
def wanted_triggers(webhook_id: str) -> dict[str, dict[str, Any]]:
    """Our three triggers by title. Placeholders are filled in without escaping, so only the id is one."""
    return {
        f"QAD ticket {kind}": {
            "title": f"QAD ticket {kind}",
            "active": True,
            "conditions": {"all": [_condition(*one) for one in conditions], "any": []},
            "actions": [{"field": "notification_webhook", "value": [webhook_id, _body(kind)]}],
        }
        for kind, conditions in _CONDITIONS.items()
    }


def _condition(field: str, operator: str, value: str) -> dict[str, str]:
    return {"field": field, "operator": operator, "value": value}


def _body(kind: str) -> str:
    return json.dumps({"kind": kind, "ticket_id": "{{ticket.id}}"})


def our_triggers(listed: Iterable[Row], foreign: Iterable[str]) -> list[Row]:
    """Triggers with a title of ours, except those that call a webhook of `foreign` ids: another installation's."""
    titles, not_ours = wanted_triggers(""), set(foreign)
    return [row for row in listed if row.get("title") in titles and not _called(row) & not_ours]


def _called(trigger: Row) -> set[str]:
    """The ids of the webhooks that a trigger calls."""
    values = [one.get("value") for one in trigger.get("actions") or () if one.get("field") == "notification_webhook"]
    return {str(value[0]) for value in values if isinstance(value, list) and value}


def is_as_wanted(trigger: Row, wanted: Mapping[str, Any]) -> bool:
    """Whether a trigger does what it was made for."""
    return _meaning(trigger) == _meaning(wanted)


def _meaning(trigger: Mapping[str, Any]) -> tuple[object, ...]:
    conditions = trigger.get("conditions") or {}
    spelt = [sorted(_condition_texts(conditions.get(name) or ())) for name in ("all", "any")]
    actions = sorted((str(one.get("field")), str(one.get("value"))) for one in trigger.get("actions") or ())
    return bool(trigger.get("active")), spelt, actions


def _condition_texts(conditions: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    return [(str(one.get("field")), str(one.get("operator")), str(one.get("value"))) for one in conditions]


def ensure_triggers(client: ZendeskClient, listed: Iterable[Row], webhook_id: str) -> dict[str, Became]:
    """Make and mend our triggers; what became of each by title: made, repaired or kept."""
    there, told = dict[str, Row](), dict[str, Became]()
    for row in listed:
        there.setdefault(str(row["title"]), row)
    for title, wanted in wanted_triggers(webhook_id).items():
        found = there.get(title)
        if found is None:
            client.triggers.create(wanted)
            told[title] = "made"
        elif is_as_wanted(found, wanted):
            told[title] = "kept"
        else:
            client.triggers.update(int(found["id"]), wanted)
            told[title] = "repaired"
    return told


_NEEDS_A_CHANGE = ("changed", "value", "value_previous")


# https://developer.zendesk.com/documentation/ticketing/reference-guides/conditions-reference/
def fires_on_organization(trigger: Mapping[str, Any]) -> bool:
    """Whether an active trigger may fire when nothing but a ticket's organization is set.

    It may not if all of it holds only for new tickets, or asks for a change of something else.
    """
    every = _condition_texts((trigger.get("conditions") or {}).get("all") or ())
    only_new = any(field == "update_type" and value == "Create" for field, _, value in every)
    elsewhere = any(field != "organization_id" and operator in _NEEDS_A_CHANGE for field, operator, _ in every)
    return bool(trigger.get("active")) and not only_new and not elsewhere
