"""Organizations: unique by name and by external id, both without regard to case.

https://developer.zendesk.com/api-reference/ticketing/organizations/organizations/
Keys of `organization_fields` that are not defined are dropped in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..clock import iso
from ..web import Call, Reply, joined, reply_json
from . import jobs, memberships, oddities, tickets
from .errors import Invalid, bad_request, not_found
from .models import Organization
from .paging import listed, listed_ids, listed_values, whole
from .store import Store, fold

if TYPE_CHECKING:
    from ..state import State

PLAIN = ("details", "notes", "group_id", "shared_tickets", "shared_comments")


def create(state: State, values: dict[str, Any]) -> Organization:
    """Add an organization; refused when its name or external id is taken."""
    store = state.zendesk
    name = str(values.get("name") or "").strip()
    if not name:
        raise Invalid("name", "Name: cannot be blank", "BlankValue")
    check_unique(store, None, name, values.get("external_id"))
    new_id, stamp = store.new_id("organizations"), iso(state.now)
    row = Organization(new_id, store.url("organizations", new_id), name, stamp, stamp)
    _write(store, row, {**values, "name": name})
    store.organizations.add(row, state.now)
    return row


def change(state: State, row: Organization, values: dict[str, Any]) -> Organization:
    """Change the given fields; lists are replaced, custom fields are merged by key."""
    store = state.zendesk
    name = str(values["name"] or "").strip() if "name" in values else row.name
    if not name:
        raise Invalid("name", "Name: cannot be blank", "BlankValue")
    check_unique(store, row.id, name, values.get("external_id"))
    renamed = name != row.name
    _write(store, row, {**values, "name": name} if "name" in values else values)
    row.updated_at = iso(state.now)
    store.organizations.changed(row, state.now)
    if renamed:
        memberships.rename(store, row)
    return row


def check_unique(store: Store, own_id: int | None, name: str, external_id: Any) -> None:
    """Refuse a name or an external id that another organization holds."""
    if store.organization_by_name.get(fold(name), own_id) != own_id:
        raise Invalid("name", f"Name: {name} has already been taken", "DuplicateValue")
    if external_id and store.organization_by_external_id.get(fold(str(external_id)), own_id) != own_id:
        raise Invalid("external_id", "External has already been taken", "DuplicateValue")


def _write(store: Store, row: Organization, values: dict[str, Any]) -> None:
    for key in PLAIN:
        if key in values:
            setattr(row, key, values[key])
    if "name" in values:
        if store.organization_by_name.get(fold(row.name)) == row.id:
            del store.organization_by_name[fold(row.name)]
        row.name = values["name"]
    store.organization_by_name[fold(row.name)] = row.id
    if "external_id" in values:
        if row.external_id:
            store.organization_by_external_id.pop(fold(row.external_id), None)
        row.external_id = None if values["external_id"] in (None, "") else str(values["external_id"])
        if row.external_id:
            store.organization_by_external_id[fold(row.external_id)] = row.id
    if "tags" in values:
        row.tags = sorted({str(tag).strip().lower() for tag in values["tags"] or []})
    if "domain_names" in values:
        for domain in row.domain_names:
            store.organization_by_domain.pop(domain, None)
        row.domain_names = [str(domain).strip().lower() for domain in values["domain_names"] or []]
        store.organization_by_domain.update(dict.fromkeys(row.domain_names, row.id))
    known = {field["key"] for field in store.organization_fields.values()}
    given = values.get("organization_fields") or {}
    row.organization_fields = {
        **dict.fromkeys(sorted(known)),
        **row.organization_fields,
        **{key: value for key, value in given.items() if key in known},
    }


def remove(state: State, row: Organization) -> None:
    """Delete: its members leave, their tickets lose it, and its name and external id are free again."""
    store = state.zendesk
    for membership_id in sorted(store.memberships_of_organization[row.id]):
        memberships.remove(state, store.memberships.rows[membership_id])
    for ticket in [ticket for ticket in store.tickets if ticket.organization_id == row.id]:
        if ticket.status not in ("closed", "deleted"):
            tickets.change(state, ticket, {"organization_id": None})
    store.organization_by_name.pop(fold(row.name), None)
    store.organization_by_external_id.pop(fold(row.external_id or ""), None)
    for domain in row.domain_names:
        store.organization_by_domain.pop(domain, None)
    store.organizations.remove(row.id)


def _answer(state: State, row: Organization, status: int = 200) -> Reply:
    return Reply(status, b'{"organization":' + state.zendesk.organizations.encoded(row.id) + b"}")


def _body(call: Call) -> dict[str, Any]:
    values = call.json().get("organization")
    if not isinstance(values, dict):
        raise bad_request("organization is missing")
    return values


def _named(state: State, call: Call) -> Organization:
    row = state.zendesk.organizations.get(call.params["id"])
    if row is None:
        raise not_found()
    return row


def _list(state: State, call: Call) -> Reply:
    return listed(call, "organizations", state.zendesk.organizations)


def _show(state: State, call: Call) -> Reply:
    return _answer(state, _named(state, call))


def _create(state: State, call: Call) -> Reply:
    return _answer(state, create(state, _body(call)), 201)


def _update(state: State, call: Call) -> Reply:
    row = _named(state, call)
    state.limits.organization_update(row.id)
    return _answer(state, change(state, row, _body(call)))


def _create_or_update(state: State, call: Call) -> Reply:
    values = _body(call)
    store = state.zendesk
    row = store.organizations.get(values["id"]) if isinstance(values.get("id"), int) else None
    if row is None and values.get("external_id"):
        row = store.organization_keyed(str(values["external_id"]))
    if row is None:
        return _answer(state, create(state, values), 201)
    return _answer(state, change(state, row, values))


def _delete(state: State, call: Call) -> Reply:
    remove(state, _named(state, call))
    return Reply(204)


def _show_many(state: State, call: Call) -> Reply:
    store = state.zendesk
    ids = [key for key in listed_ids(call) if store.organizations.get(key) is not None]
    for external_id in listed_values(call, "external_ids"):
        found = store.organization_keyed(external_id)
        if found is not None:
            ids.append(found.id)
    return whole("organizations", store.organizations, list(dict.fromkeys(ids)))


def _search(state: State, call: Call) -> Reply:
    store = state.zendesk
    if "external_id" in call.query:
        found = store.organization_keyed(call.query["external_id"])
    else:
        found = store.organization_named(call.query.get("name", ""))
    return whole("organizations", store.organizations, [] if found is None else [found.id])


def _count(state: State, _call: Call) -> Reply:
    return reply_json({"count": {"value": len(state.zendesk.organizations), "refreshed_at": iso(state.now)}})


def _create_many(state: State, call: Call) -> Reply:
    def item(state: State, _index: int, values: dict[str, Any]) -> dict[str, Any]:
        return {"id": create(state, values).id, "status": "Created"}

    rows = call.json().get("organizations") or []
    failed = oddities.documented("create")
    return jobs.start(state, call, "Bulk Create Organization", "Creating Organizations", rows, item, failed)


def _update_many(state: State, call: Call) -> Reply:
    rows = batch_rows(call, "organization")
    failed = oddities.documented("update")
    return jobs.start(state, call, "Bulk Update Organization", "Updating", rows, _update_item, failed)


def _update_item(state: State, _index: int, values: dict[str, Any]) -> dict[str, Any]:
    store = state.zendesk
    by_id = isinstance(values.get("id"), int)
    key = values.get("external_id")
    row = store.organizations.get(values["id"]) if by_id else store.organization_keyed(str(key or ""))
    if row is None:
        raise not_found()
    change(state, row, values)
    return {"action": "update", "id": row.id, "status": "Updated", "success": True}


def _destroy_many(state: State, call: Call) -> Reply:
    def item(state: State, _index: int, values: dict[str, Any]) -> dict[str, Any]:
        row = state.zendesk.organizations.get(values["id"])
        if row is None:
            raise not_found()
        remove(state, row)
        return {"action": "delete", "id": values["id"], "status": "Deleted", "success": True}

    found = (state.zendesk.organization_keyed(key) for key in listed_values(call, "external_ids"))
    rows = [{"id": key} for key in [*listed_ids(call), *(row.id for row in found if row is not None)]]
    return jobs.start(state, call, "Bulk Delete Organization", "Deleting", rows, item, oddities.documented("delete"))


def batch_rows(call: Call, noun: str) -> list[dict[str, Any]]:
    """The rows of an `update_many`: one body for several ids or external ids, or a list with one body each."""
    ids, external_ids = listed_ids(call), listed_values(call, "external_ids")
    body = call.json()
    if not ids and not external_ids:
        return list(body.get(f"{noun}s") or [])
    values = body.get(noun) or {}
    return [{**values, "id": key} for key in ids] + [{**values, "external_id": key} for key in external_ids]


def _of_user(state: State, call: Call) -> Reply:
    store = state.zendesk
    ids = [row.organization_id for row in store.memberships_for(call.params["id"])]
    return joined("organizations", [store.organizations.encoded(key) for key in ids], {"count": len(ids)})


ROUTES = [
    ("GET", "/api/v2/organizations", _list),
    ("POST", "/api/v2/organizations", _create),
    ("GET", "/api/v2/organizations/count", _count),
    ("GET", "/api/v2/organizations/search", _search),
    ("GET", "/api/v2/organizations/show_many", _show_many),
    ("POST", "/api/v2/organizations/create_many", _create_many),
    ("POST", "/api/v2/organizations/create_or_update", _create_or_update),
    ("PUT", "/api/v2/organizations/update_many", _update_many),
    ("DELETE", "/api/v2/organizations/destroy_many", _destroy_many),
    ("GET", "/api/v2/organizations/{id:int}", _show),
    ("PUT", "/api/v2/organizations/{id:int}", _update),
    ("DELETE", "/api/v2/organizations/{id:int}", _delete),
    ("GET", "/api/v2/users/{id:int}/organizations", _of_user),
]
