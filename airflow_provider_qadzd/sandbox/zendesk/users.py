"""The users' part of the API: single calls with their own limits, bulk jobs, look-ups.

https://developer.zendesk.com/api-reference/ticketing/users/users/
Bulk import answers 403 when it is switched off, as it is on a new account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..clock import parse_instant
from ..web import Call, Reply, refuse, reply_json
from . import jobs, oddities, people
from .errors import bad_request, not_found, too_many_values
from .models import User
from .organizations import batch_rows
from .paging import by_number, listed, listed_ids, listed_values, whole
from .store import fold

if TYPE_CHECKING:
    from ..state import State


ERASED_NAME = "Permanently Deleted User"
DELETED_SHOWN = (
    "id", "name", "email", "created_at", "updated_at", "time_zone", "phone", "shared_phone_number", "photo",
    "locale_id", "locale", "organization_id", "role", "active",
)  # fmt: skip
"""What is shown of a deleted user."""


def _answer(state: State, row: User, status: int = 200) -> Reply:
    return Reply(status, b'{"user":' + state.zendesk.users.encoded(row.id) + b"}")


def _body(call: Call) -> dict[str, Any]:
    values = call.json().get("user")
    if not isinstance(values, dict):
        raise bad_request("user is missing")
    return values


def _row(state: State, call: Call) -> User:
    row = state.zendesk.users.get(call.params["id"])
    if row is None:
        raise not_found()
    return row


def _me(state: State, _call: Call) -> Reply:
    return _answer(state, state.zendesk.users.rows[state.zendesk.admin_id])


def _list(state: State, call: Call) -> Reply:
    users = state.zendesk.users
    if "external_id" in call.query:
        return _keyed(state, call.query["external_id"])
    roles = [*call.query.getlist("role"), *call.query.getlist("role[]")]

    def wanted(row: User) -> bool:
        return row.active and (not roles or row.role in roles)

    return listed(call, "users", users, wanted)


def _keyed(state: State, external_id: str) -> Reply:
    found = state.zendesk.user_keyed(external_id)
    return whole("users", state.zendesk.users, [] if found is None else [found.id])


def _search(state: State, call: Call) -> Reply:
    if "external_id" in call.query:
        return _keyed(state, call.query["external_id"])
    ids = _found(state, call.query.get("query", ""))
    if state.settings.search_lag:
        newest, rows = state.now - state.settings.search_lag, state.zendesk.users.rows
        ids = [key for key in ids if parse_instant(rows[key].updated_at) <= newest]
    return by_number(call, "users", state.zendesk.users, ids)


def _found(state: State, query: str) -> list[int]:
    store = state.zendesk
    words = [word for word in query.split() if word != "type:user"]
    text = " ".join(words).strip('"')
    field, colon, value = text.partition(":")
    value = value.strip('"')
    if colon and field in ("email", "external_id"):
        found = store.user_with_email(value) if field == "email" else store.user_keyed(value)
        return [] if found is None else [found.id]
    exact = store.user_with_email(text) if "@" in text else None
    if exact is not None:
        return [exact.id]
    wanted = fold(value if colon and field == "name" else text)
    return [row.id for row in store.users if row.active and wanted in f"{row.name} {row.email or ''}".casefold()]


def _show(state: State, call: Call) -> Reply:
    return _answer(state, _row(state, call))


def _show_many(state: State, call: Call) -> Reply:
    store = state.zendesk
    ids = [key for key in listed_ids(call) if store.users.get(key) is not None]
    for external_id in listed_values(call, "external_ids"):
        found = store.user_keyed(external_id)
        if found is not None:
            ids.append(found.id)
    return whole("users", store.users, list(dict.fromkeys(ids)))


def _create(state: State, call: Call) -> Reply:
    return _answer(state, people.create(state, _body(call)), 201)


def _update(state: State, call: Call) -> Reply:
    row = _row(state, call)
    if not row.active:
        raise not_found()
    state.limits.user_update(row.id)
    return _answer(state, people.change(state, row, _body(call)))


def _create_or_update(state: State, call: Call) -> Reply:
    values = _body(call)
    row = people.matched(state, values)
    state.limits.user_update(row.id if row is not None else fold(str(values.get("email") or values.get("external_id"))))
    if row is None:
        return _answer(state, people.create(state, values), 201)
    return _answer(state, people.change(state, row, values))


def _delete(state: State, call: Call) -> Reply:
    row = _row(state, call)
    if not row.active:
        raise not_found()
    people.remove(state, row)
    return _answer(state, row)


def _deleted(state: State, call: Call) -> User:
    row = _row(state, call)
    if row.active or row.name == ERASED_NAME:
        raise not_found()
    return row


def _show_deleted(state: State, call: Call) -> Reply:
    return _told_of_deleted(state, _deleted(state, call))


def _told_of_deleted(state: State, row: User) -> Reply:
    shown = {name: getattr(row, name) for name in DELETED_SHOWN}
    url = state.zendesk.url("deleted_users", row.id)
    return reply_json({"deleted_user": {**shown, "url": url}})


def _erase(state: State, call: Call) -> Reply:
    """Delete a deleted user for good: of all their details only a name remains, which says so."""
    row = _deleted(state, call)
    row.name, row.email, row.phone, row.external_id = ERASED_NAME, None, None, None
    row.tags, row.user_fields = [], dict.fromkeys(row.user_fields)
    state.zendesk.users.changed(row, state.now)
    return _told_of_deleted(state, row)


def _import_rows(state: State, call: Call) -> list[Any]:
    if not state.settings.bulk_import:
        text = "Bulk user import is disabled for this account. Contact Zendesk Support to have it enabled."
        raise refuse(403, {"error": {"title": "Forbidden", "message": text}})
    rows = list(call.json().get("users") or [])
    if len(rows) > 100:
        raise too_many_values("Maximum 100 users may be created per call")
    return rows


def _summary(row: User, status: str) -> dict[str, Any]:
    return {"id": row.id, "status": status, "email": row.email, "external_id": row.external_id}


def _create_many(state: State, call: Call) -> Reply:
    def item(state: State, _index: int, values: dict[str, Any]) -> dict[str, Any]:
        return _summary(people.create(state, values), "Created")

    rows = _import_rows(state, call)
    failed = oddities.indexed("UserCreateFailed")
    return jobs.start(state, call, "Bulk Create User", "Creating Users", rows, item, failed)


def _create_or_update_many(state: State, call: Call) -> Reply:
    def item(state: State, _index: int, values: dict[str, Any]) -> dict[str, Any]:
        row = people.matched(state, values)
        if row is None:
            return _summary(people.create(state, values), "Created")
        return _summary(people.change(state, row, values), "Updated")

    rows = _import_rows(state, call)
    return jobs.start(state, call, "Bulk Create Or Update User", "Creating Users", rows, item, oddities.without_id)


def _destroy_many(state: State, call: Call) -> Reply:
    def item(state: State, _index: int, values: dict[str, Any]) -> dict[str, Any]:
        row = state.zendesk.users.get(values["id"])
        if row is None or not row.active:
            raise not_found()
        people.remove(state, row)
        return {"action": "delete", "id": values["id"], "status": "Deleted", "success": True}

    found = (state.zendesk.user_keyed(key) for key in listed_values(call, "external_ids"))
    rows = [{"id": key} for key in [*listed_ids(call), *(row.id for row in found if row is not None)]]
    return jobs.start(state, call, "Bulk Delete User", "Deleting", rows, item, oddities.documented("delete"))


def _update_many(state: State, call: Call) -> Reply:
    rows = batch_rows(call, "user")
    return jobs.start(state, call, "Bulk Update User", "Updating", rows, _update_item, oddities.documented("update"))


def _update_item(state: State, _index: int, values: dict[str, Any]) -> dict[str, Any]:
    users = state.zendesk.users
    by_id = isinstance(values.get("id"), int)
    row = users.get(values["id"]) if by_id else state.zendesk.user_keyed(str(values.get("external_id") or ""))
    if row is None or not row.active:
        raise not_found()
    people.change(state, row, values)
    return {"action": "update", "id": row.id, "status": "Updated", "success": True}


ROUTES = [
    ("GET", "/api/v2/users", _list),
    ("POST", "/api/v2/users", _create),
    ("GET", "/api/v2/users/me", _me),
    ("GET", "/api/v2/users/search", _search),
    ("GET", "/api/v2/users/show_many", _show_many),
    ("POST", "/api/v2/users/create_or_update", _create_or_update),
    ("POST", "/api/v2/users/create_many", _create_many),
    ("POST", "/api/v2/users/create_or_update_many", _create_or_update_many),
    ("PUT", "/api/v2/users/update_many", _update_many),
    ("DELETE", "/api/v2/users/destroy_many", _destroy_many),
    ("GET", "/api/v2/users/{id:int}", _show),
    ("PUT", "/api/v2/users/{id:int}", _update),
    ("DELETE", "/api/v2/users/{id:int}", _delete),
    ("GET", "/api/v2/deleted_users/{id:int}", _show_deleted),
    ("DELETE", "/api/v2/deleted_users/{id:int}", _erase),
]
