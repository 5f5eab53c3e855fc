"""Custom fields of organizations and users: listed, kept and deleted; a key that is not here is dropped on writing.

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


CHANGEABLE = ("title", "description", "position", "active", "regexp_for_validation", "custom_field_options")


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

    def found(state: State, call: Call) -> dict[str, Any]:
        row = _fields(state, noun).get(call.params["id"])
        if row is None:
            raise not_found()
        return row

    def show(state: State, call: Call) -> Reply:
        return reply_json({noun: found(state, call)})

    def update(state: State, call: Call) -> Reply:
        """What a field is called and whether it is in use; its type and key stay, whatever is asked."""
        row, values = found(state, call), call.json().get(noun)
        if not isinstance(values, dict):
            raise bad_request(f"{noun} is missing")
        row.update({name: values[name] for name in CHANGEABLE if name in values}, updated_at=iso(state.now))
        row["raw_title"], row["raw_description"] = row["title"], row["description"]
        return reply_json({noun: row})

    def remove(state: State, call: Call) -> Reply:
        row = found(state, call)
        del _fields(state, noun)[row["id"]]
        if noun == "user_field":
            for user in state.zendesk.users:
                if user.user_fields.pop(row["key"], None) is not None:
                    state.zendesk.users.redraw(user)
        else:
            for organization in state.zendesk.organizations:
                if organization.organization_fields.pop(row["key"], None) is not None:
                    state.zendesk.organizations.redraw(organization)
        return Reply(204)

    def add(state: State, call: Call) -> Reply:
        values = call.json().get(noun)
        if not isinstance(values, dict):
            raise bad_request(f"{noun} is missing")
        return reply_json({noun: create(state, noun, values)}, 201)

    path, one = f"/api/v2/{noun}s", f"/api/v2/{noun}s/{{id:int}}"
    return [
        ("GET", path, list_all), ("POST", path, add), ("GET", one, show), ("PUT", one, update), ("DELETE", one, remove),
    ]  # fmt: skip


ROUTES = [*_handlers("organization_field"), *_handlers("user_field")]
