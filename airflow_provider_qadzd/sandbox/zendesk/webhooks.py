"""Webhooks: kept, tested, their secrets and their log.

https://developer.zendesk.com/api-reference/webhooks/webhooks-api/webhooks/
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from ..clock import iso
from ..web import Call, Refusal, Reply, refuse, reply_json
from . import events
from .deliveries import Parcel
from .errors import not_found
from .paging import number

if TYPE_CHECKING:
    from ..state import State

CONDITIONAL = "conditional_ticket_events"
CHANGEABLE = ("name", "description", "endpoint", "http_method", "request_format", "status", "authentication")


def _refused(text: str) -> Refusal:
    return refuse(400, {"errors": [{"code": "InvalidWebhook", "title": "Invalid webhook", "detail": text}]})


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    subscriptions = values.get("subscriptions") or []
    if not isinstance(subscriptions, list) or (CONDITIONAL in subscriptions and len(subscriptions) > 1):
        raise _refused("conditional_ticket_events cannot be combined with events")
    if not values.get("name") or not str(values.get("endpoint") or "").startswith(("http://", "https://")):
        raise _refused("name and endpoint are required")
    by_event = subscriptions and CONDITIONAL not in subscriptions
    if by_event and (values.get("http_method") != "POST" or values.get("request_format") != "json"):
        raise _refused("events need http_method POST and request_format json")
    if values.get("status", "active") not in ("active", "inactive"):
        raise _refused("status must be active or inactive")
    return values


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    hidden = dict(row)
    if hidden.get("authentication"):
        hidden["authentication"] = {key: hidden["authentication"].get(key) for key in ("type", "add_position")}
    return hidden


def _values(call: Call) -> dict[str, Any]:
    values = call.json().get("webhook")
    if not isinstance(values, dict):
        raise _refused("webhook is missing")
    return values


def _row(state: State, call: Call) -> dict[str, Any]:
    row = state.zendesk.webhooks.get(call.params["id"])
    if row is None:
        raise not_found()
    return row


def _create(state: State, call: Call) -> Reply:
    values = _checked({"http_method": "POST", "request_format": "json", "subscriptions": [], **_values(call)})
    new_id, stamp = events.ulid(state.now), iso(state.now)
    admin = str(state.zendesk.admin_id)
    row = {
        "id": new_id,
        "name": values["name"],
        "description": values.get("description") or "",
        "status": values.get("status", "active"),
        "subscriptions": values["subscriptions"],
        "endpoint": values["endpoint"],
        "http_method": values["http_method"],
        "request_format": values["request_format"],
        "authentication": values.get("authentication"),
        "custom_headers": values.get("custom_headers"),
        "created_at": stamp,
        "created_by": admin,
        "updated_at": stamp,
        "updated_by": admin,
    }
    state.zendesk.webhooks[new_id] = row
    state.zendesk.secrets[new_id] = secrets.token_urlsafe(32)
    return reply_json({"webhook": _shown(row)}, 201)


def _list(state: State, call: Call) -> Reply:
    wanted = call.query.get("filter[name_contains]", "").casefold()
    rows = [_shown(row) for row in state.zendesk.webhooks.values() if wanted in str(row["name"]).casefold()]
    return _page(call, "webhooks", rows)


def _page(call: Call, name: str, rows: list[dict[str, Any]]) -> Reply:
    start, size = number(call, "page[after]", 0), min(number(call, "page[size]", 100), 100)
    more = start + size < len(rows)
    meta = {"has_more": more, "after_cursor": str(start + size) if more else None, "before_cursor": None}
    return reply_json({name: rows[start : start + size], "meta": meta, "links": {"prev": None, "next": None}})


def _show(state: State, call: Call) -> Reply:
    return reply_json({"webhook": _shown(_row(state, call))})


def _update(state: State, call: Call) -> Reply:
    row, values = _row(state, call), _values(call)
    given = values.get("subscriptions", row["subscriptions"])
    if (CONDITIONAL in given) != (CONDITIONAL in row["subscriptions"]):
        raise _refused("the kind of subscription cannot be changed")
    changed = _checked({**row, **values})
    row.update({key: changed[key] for key in (*CHANGEABLE, "subscriptions", "custom_headers")})
    row["updated_at"] = iso(state.now)
    return Reply(204)


def _delete(state: State, call: Call) -> Reply:
    webhook_id = _row(state, call)["id"]
    del state.zendesk.webhooks[webhook_id]
    state.zendesk.secrets.pop(webhook_id, None)
    return Reply(204)


def _secret(state: State, call: Call) -> Reply:
    secret = state.zendesk.secrets[_row(state, call)["id"]]
    return reply_json({"signing_secret": {"algorithm": "SHA256", "secret": secret}})


def _new_secret(state: State, call: Call) -> Reply:
    state.zendesk.secrets[_row(state, call)["id"]] = secrets.token_urlsafe(32)
    reply = _secret(state, call)
    reply.status = 201
    return reply


def _test(state: State, call: Call) -> Reply:
    """Call the endpoint once, signed with the webhook's secret, or with the public one before it exists."""
    known = state.zendesk.webhooks.get(call.query.get("webhook_id", ""))
    request = call.json().get("request") or {}
    merged = {"id": "", "http_method": "POST", **(known or {}), **{k: v for k, v in request.items() if v is not None}}
    if not str(merged.get("endpoint") or "").startswith(("http://", "https://")):
        raise _refused("request.endpoint is required")
    payload = request.get("payload", {"message": "test"})
    body = payload if isinstance(payload, str) else json.dumps(payload, indent=2) + "\n"
    parcel: Parcel = state.courier.parcel(merged, body.encode(), "test", "")

    def later() -> Reply:
        attempt = state.courier.attempt(parcel)
        headers = [{"key": key, "value": value} for key, value in attempt["headers"].items()]
        return reply_json({"response": {"status": attempt["status"], "headers": headers, "payload": attempt["text"]}})

    return Reply(later=later)


def _invocations(state: State, call: Call) -> Reply:
    rows = state.zendesk.invocations[_row(state, call)["id"]]
    shown = [{key: value for key, value in row.items() if key != "attempts"} for row in rows[::-1]]
    return _page(call, "invocations", shown)


def _attempts(state: State, call: Call) -> Reply:
    for row in state.zendesk.invocations[_row(state, call)["id"]]:
        if row["id"] == call.params["invocation"]:
            return _page(call, "attempts", [_attempt(number, seen) for number, seen in enumerate(row["attempts"])])
    raise not_found()


def _attempt(index: int, seen: dict[str, Any]) -> dict[str, Any]:
    answer = {"headers": seen["headers"], "payload": seen["text"], "status": seen["status"]}
    return {
        "id": str(index + 1),
        "completed_at": iso(seen["at"]),
        "status": "success" if 200 <= seen["status"] < 300 else "failed",
        "status_code": seen["status"],
        "request": seen["request"],
        "response": answer,
    }


ROUTES = [
    ("GET", "/api/v2/webhooks", _list),
    ("POST", "/api/v2/webhooks", _create),
    ("POST", "/api/v2/webhooks/test", _test),
    ("GET", "/api/v2/webhooks/{id}", _show),
    ("PUT PATCH", "/api/v2/webhooks/{id}", _update),
    ("DELETE", "/api/v2/webhooks/{id}", _delete),
    ("GET", "/api/v2/webhooks/{id}/signing_secret", _secret),
    ("POST", "/api/v2/webhooks/{id}/signing_secret", _new_secret),
    ("GET", "/api/v2/webhooks/{id}/invocations", _invocations),
    ("GET", "/api/v2/webhooks/{id}/invocations/{invocation}/attempts", _attempts),
]
