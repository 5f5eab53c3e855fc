"""Custom fields of organizations and users: listed and created; a key that is not here is dropped on writing.

https://developer.zendesk.com/api-reference/ticketing/organizations/organization_fields/
https://developer.zendesk.com/api-reference/ticketing/users/user_fields/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..clock import iso
from ..web import Call, Handler, Reply, reply_json
from .errors import Invalid, bad_request, not_found

if TYPE_CHECKING:
    from ..state import State


def create(state: State, noun: str, values: dict[str, Any]) -> dict[str, Any]:
    """Define a field; its key must be new."""
    fields = _fields(state, noun)
    key = str(values.get("key") or "")
    if not key or not values.get("title") or not values.get("type"):
        raise Invalid("key", "Key: cannot be blank", "BlankValue")
    if any(field["key"] == key for field in fields.values()):
        raise Invalid("key", f"Key: {key} has already been taken", "DuplicateValue")
    new_id, stamp = state.zendesk.new_id(f"{noun}s"), iso(state.now)
    row = {
        "url": state.zendesk.url(f"{noun}s", new_id),
        "id": new_id,
        "type": values["type"],
        "key": key,
        "title": values["title"],
        "description": values.get("description", ""),
        "raw_title": values["title"],
        "raw_description": values.get("description", ""),
        "position": len(fields),
        "active": values.get("active", True),
        "system": False,
        "regexp_for_validation": values.get("regexp_for_validation"),
        "created_at": stamp,
        "updated_at": stamp,
    }
    if values["type"] == "dropdown":
        row["custom_field_options"] = values.get("custom_field_options", [])
    fields[new_id] = row
    return row


def _fields(state: State, noun: str) -> dict[int, dict[str, Any]]:
    return state.zendesk.user_fields if noun == "user_field" else state.zendesk.organization_fields


def _handlers(noun: str) -> list[tuple[str, str, Handler]]:
    def list_all(state: State, call: Call) -> Reply:
        rows = list(_fields(state, noun).values())
        rest: dict[str, Any] = {"next_page": None, "previous_page": None, "count": len(rows)}
        if "page[size]" in call.query:
            meta = {"has_more": False, "after_cursor": None, "before_cursor": None}
            rest = {"meta": meta, "links": {"prev": None, "next": None}}
        return reply_json({f"{noun}s": rows, **rest})

    def show(state: State, call: Call) -> Reply:
        row = _fields(state, noun).get(call.params["id"])
        if row is None:
            raise not_found()
        return reply_json({noun: row})

    def add(state: State, call: Call) -> Reply:
        values = call.json().get(noun)
        if not isinstance(values, dict):
            raise bad_request(f"{noun} is missing")
        return reply_json({noun: create(state, noun, values)}, 201)

    path = f"/api/v2/{noun}s"
    return [("GET", path, list_all), ("POST", path, add), ("GET", path + "/{id:int}", show)]


ROUTES = [*_handlers("organization_field"), *_handlers("user_field")]
