"""What a trigger of this account may ask for and do: the part of the real lists that a solved-ticket trigger needs.

https://developer.zendesk.com/documentation/ticketing/reference-guides/conditions-reference/
https://developer.zendesk.com/documentation/ticketing/reference-guides/actions-reference/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..web import Call, Reply, reply_json

if TYPE_CHECKING:
    from ..state import State

STATUSES = ("new", "open", "pending", "hold", "solved", "closed")
# `value` is shown as "Changed to" and `value_previous` as "Changed from".
STATUS_OPERATORS = {
    "is": "Is",
    "is_not": "Is not",
    "less_than": "Less than",
    "greater_than": "Greater than",
    "changed": "Changed",
    "value": "Changed to",
    "value_previous": "Changed from",
    "not_changed": "Not changed",
    "not_value": "Not changed to",
    "not_value_previous": "Not changed from",
}
WITHOUT_VALUE = ("changed", "not_changed")


def definitions(webhooks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Conditions and actions; the webhooks that triggers may call are values of `notification_webhook`."""
    status = _condition("status", "Status", STATUS_OPERATORS, {word: word.capitalize() for word in STATUSES})
    kind = _condition("update_type", "Ticket", {"is": "Is"}, {"Create": "Created", "Change": "Updated"})
    tags = _condition("current_tags", "Tags", {"includes": "Contains at least one of the following"}, {})
    ready = [row for row in webhooks.values() if row["subscriptions"] == ["conditional_ticket_events"]]
    return {
        "conditions_all": [kind, status, tags],
        "conditions_any": [status, tags],
        "actions": [
            _described("status", "Status", {word: word.capitalize() for word in STATUSES[1:]}),
            _described("current_tags", "Add tags", {}),
            _described("notification_webhook", "Notify active webhook", {row["id"]: row["name"] for row in ready}),
        ],
    }


def _described(subject: str, title: str, values: dict[str, str]) -> dict[str, Any]:
    """One action: a choice of values, or text where there are none."""
    listed = [{"title": shown, "value": value, "enabled": True} for value, shown in values.items()]
    return {
        "title": title,
        "subject": subject,
        "group": "ticket",
        "type": "list" if listed else "text",
        "nullable": False,
        "repeatable": False,
        "values": listed,
    }


def _condition(subject: str, title: str, operators: dict[str, str], values: dict[str, str]) -> dict[str, Any]:
    described = _described(subject, title, values)
    shown = [{"title": text, "value": value, "terminal": value in WITHOUT_VALUE} for value, text in operators.items()]
    return {**described, "operators": shown}


def _show(state: State, _call: Call) -> Reply:
    return reply_json({"definitions": definitions(state.zendesk.webhooks)})


ROUTES = [("GET", "/api/v2/triggers/definitions", _show)]
