"""Triggers: kept here, evaluated in `events`.

https://developer.zendesk.com/api-reference/ticketing/business-rules/triggers/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..clock import iso
from ..web import Call, Reply, reply_json
from .errors import Invalid, bad_request, not_found
from .paging import number

if TYPE_CHECKING:
    from ..state import State

LONGEST_BODY = 16000


def _values(call: Call) -> dict[str, Any]:
    values = call.json().get("trigger")
    if not isinstance(values, dict):
        raise bad_request("trigger is missing")
    return values


def _check(state: State, row: dict[str, Any]) -> None:
    if not str(row.get("title") or "").strip():
        raise Invalid("title", "Title: cannot be blank", "BlankValue")
    conditions = row.get("conditions") or {}
    if not (conditions.get("all") or conditions.get("any")):
        raise Invalid("base", "Conditions: at least one condition is needed", "InvalidValue")
    if not row.get("actions"):
        raise Invalid("actions", "Actions: cannot be blank", "BlankValue")
    for action in row["actions"]:
        if action.get("field") != "notification_webhook":
            continue
        value = action.get("value")
        webhook = state.zendesk.webhooks.get(str(value[0])) if isinstance(value, list) and value else None
        if webhook is None or "conditional_ticket_events" not in webhook["subscriptions"]:
            raise Invalid("actions", "Actions: the webhook is not valid", "InvalidValue")
        if len(str(value[1] if len(value) > 1 else "")) > LONGEST_BODY:
            raise Invalid("actions", "Actions: the body is too long", "InvalidValue")


def _row(state: State, call: Call) -> dict[str, Any]:
    row = state.zendesk.triggers.get(call.params["id"])
    if row is None:
        raise not_found()
    return row


def _list(state: State, call: Call) -> Reply:
    rows = list(state.zendesk.triggers.values())
    active = call.query.get("active")
    if active is not None:
        rows = [row for row in rows if row["active"] == (active == "true")]
    if "page[size]" not in call.query and "page[after]" not in call.query:
        return reply_json({"triggers": rows[:100], "count": len(rows), "next_page": None, "previous_page": None})
    start, size = number(call, "page[after]", 0), min(number(call, "page[size]", 100), 100)
    more = start + size < len(rows)
    meta = {"has_more": more, "after_cursor": str(start + size) if more else None, "before_cursor": None}
    return reply_json({"triggers": rows[start : start + size], "meta": meta, "links": {"prev": None, "next": None}})


def _show(state: State, call: Call) -> Reply:
    return reply_json({"trigger": _row(state, call)})


def _create(state: State, call: Call) -> Reply:
    values, stamp = _values(call), iso(state.now)
    new_id = state.zendesk.new_id("triggers")
    conditions = values.get("conditions") or {}
    row = {
        "url": state.zendesk.url("triggers", new_id),
        "id": new_id,
        "title": values.get("title"),
        "active": values.get("active", True),
        "updated_at": stamp,
        "created_at": stamp,
        "default": False,
        "actions": values.get("actions") or [],
        "conditions": {"all": conditions.get("all") or [], "any": conditions.get("any") or []},
        "description": values.get("description"),
        "position": values.get("position", len(state.zendesk.triggers) + 1),
        "raw_title": values.get("title"),
        "category_id": values.get("category_id", "360000550001"),
    }
    _check(state, row)
    state.zendesk.triggers[new_id] = row
    return reply_json({"trigger": row}, 201)


def _update(state: State, call: Call) -> Reply:
    row, values = _row(state, call), _values(call)
    known = ("title", "active", "actions", "conditions", "description", "position", "category_id")
    changed = {**row, **{key: values[key] for key in known if key in values}}
    changed["raw_title"] = changed["title"]
    _check(state, changed)
    row.update(changed, updated_at=iso(state.now))
    return reply_json({"trigger": row})


def _delete(state: State, call: Call) -> Reply:
    del state.zendesk.triggers[_row(state, call)["id"]]
    return Reply(204)


ROUTES = [
    ("GET", "/api/v2/triggers", _list),
    ("POST", "/api/v2/triggers", _create),
    ("GET", "/api/v2/triggers/{id:int}", _show),
    ("PUT", "/api/v2/triggers/{id:int}", _update),
    ("DELETE", "/api/v2/triggers/{id:int}", _delete),
]
