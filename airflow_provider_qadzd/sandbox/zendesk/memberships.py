"""Organization memberships: who belongs where, and which place is the default.

https://developer.zendesk.com/api-reference/ticketing/organizations/organization_memberships/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..clock import iso
from ..web import Call, Reply, reply_json
from . import jobs, oddities, tickets
from .errors import Invalid, bad_request, not_found
from .models import Membership, Organization, User
from .paging import chosen, in_order, listed, listed_ids
from .store import Store

if TYPE_CHECKING:
    from ..state import State

KIND = "organization_memberships"


def add(state: State, user: User, organization: Organization, default: bool = False) -> Membership:
    """Make a user a member; the first place is the default. Refused when it is there already."""
    store = state.zendesk
    mine = store.memberships_for(user.id)
    if any(row.organization_id == organization.id for row in mine):
        text = "User: This user is already a member of this organization"
        raise Invalid("user_id", text, "DuplicateValue")
    new_id, stamp = store.new_id(KIND), iso(state.now)
    url = store.url(KIND, new_id)
    row = Membership(new_id, url, user.id, organization.id, organization.name, None, stamp, stamp)
    store.memberships.add(row, state.now)
    store.memberships_of_user[user.id].append(row.id)
    store.memberships_of_organization[organization.id].add(row.id)
    if default or not mine:
        make_default(state, row)
    return row


def make_default(state: State, row: Membership) -> None:
    """Make this the user's default, in place of the one that was."""
    store, stamp = state.zendesk, iso(state.now)
    for other in store.memberships_for(row.user_id):
        wanted = True if other.id == row.id else None
        if other.default != wanted:
            other.default, other.updated_at = wanted, stamp
            store.memberships.changed(other, state.now)
    _default_of_user(state, row.user_id, row.organization_id)


def remove(state: State, row: Membership) -> None:
    """End a membership: the user's open tickets there lose the organization, another place becomes the default."""
    store = state.zendesk
    store.memberships.remove(row.id)
    store.memberships_of_user[row.user_id].remove(row.id)
    store.memberships_of_organization[row.organization_id].discard(row.id)
    for ticket_id in sorted(store.tickets_of_user[row.user_id]):
        ticket = store.tickets.rows[ticket_id]
        if ticket.organization_id == row.organization_id and ticket.status not in ("solved", "closed", "deleted"):
            tickets.change(state, ticket, {"organization_id": None})
    if row.default:
        left = store.memberships_for(row.user_id)
        if left:
            make_default(state, left[0])
        else:
            _default_of_user(state, row.user_id, None)


def replace_all(state: State, user: User, organization: Organization | None) -> None:
    """What writing `organization_id` on a user does: this one becomes the default, all others are removed."""
    for row in state.zendesk.memberships_for(user.id):
        if organization is None or row.organization_id != organization.id:
            remove(state, row)
    left = state.zendesk.memberships_for(user.id)
    if organization is not None and not left:
        add(state, user, organization, default=True)


def rename(store: Store, organization: Organization) -> None:
    """Carry an organization's new name to its memberships."""
    for membership_id in store.memberships_of_organization[organization.id]:
        row = store.memberships.rows[membership_id]
        row.organization_name = organization.name
        store.memberships.redraw(row)


def _default_of_user(state: State, user_id: int, organization_id: int | None) -> None:
    user = state.zendesk.users.rows[user_id]
    if user.organization_id != organization_id:
        user.organization_id, user.updated_at = organization_id, iso(state.now)
        state.zendesk.users.changed(user, state.now)


def _from_values(state: State, values: dict[str, Any]) -> Membership:
    user = state.zendesk.users.get(values.get("user_id") or 0)
    organization = state.zendesk.organizations.get(values.get("organization_id") or 0)
    if user is None or not user.active:
        raise Invalid("user", "User: cannot be blank", "BlankValue")
    if organization is None:
        raise Invalid("organization", "Organization: cannot be blank", "BlankValue")
    return add(state, user, organization, bool(values.get("default")))


def _list(state: State, call: Call) -> Reply:
    return listed(call, KIND, state.zendesk.memberships)


def _of_user(state: State, call: Call) -> Reply:
    rows = _homes(state, call.params["user_id"])
    return in_order(call, KIND, state.zendesk.memberships, [row.id for row in rows])


def _homes(state: State, user_id: int) -> list[Membership]:
    """A user's memberships: the default first, then by organization name."""
    return sorted(state.zendesk.memberships_for(user_id), key=lambda row: (not row.default, row.organization_name))


def _of_organization(state: State, call: Call) -> Reply:
    store = state.zendesk
    return chosen(call, KIND, store.memberships, list(store.memberships_of_organization[call.params["id"]]))


def _row(state: State, call: Call) -> Membership:
    row = state.zendesk.memberships.get(call.params["id"])
    if row is None or call.params.get("user_id", row.user_id) != row.user_id:
        raise not_found()
    return row


def _show(state: State, call: Call) -> Reply:
    return reply_json({"organization_membership": _row(state, call)})


def _create(state: State, call: Call) -> Reply:
    values = call.json().get("organization_membership")
    if not isinstance(values, dict):
        raise bad_request("organization_membership is missing")
    values = {**values, **({"user_id": call.params["user_id"]} if "user_id" in call.params else {})}
    return reply_json({"organization_membership": _from_values(state, values)}, 201)


def _create_many(state: State, call: Call) -> Reply:
    def item(state: State, index: int, values: dict[str, Any]) -> dict[str, Any]:
        return {"id": _from_values(state, values).id, "index": index}

    failed = oddities.indexed("OrganizationMembershipCreateFailed")
    rows = call.json().get(KIND) or []
    return jobs.start(state, call, "Bulk Create Organization Membership", "Creating", rows, item, failed)


def _delete(state: State, call: Call) -> Reply:
    remove(state, _row(state, call))
    return Reply(204)


def _destroy_many(state: State, call: Call) -> Reply:
    def item(state: State, _index: int, values: dict[str, Any]) -> dict[str, Any]:
        row = state.zendesk.memberships.get(values["id"])
        if row is None:
            raise not_found()
        remove(state, row)
        return {"action": "delete", "id": values["id"], "status": "Deleted", "success": True}

    rows = [{"id": key} for key in listed_ids(call)]
    failed = oddities.documented("delete")
    return jobs.start(state, call, "Bulk Delete Organization Membership", "Deleting", rows, item, failed)


def _make_default(state: State, call: Call) -> Reply:
    row = _row(state, call)
    make_default(state, row)
    return reply_json({KIND: _homes(state, row.user_id)})


def _make_default_organization(state: State, call: Call) -> Reply:
    user_id, organization_id = call.params["user_id"], call.params["organization_id"]
    for row in state.zendesk.memberships_for(user_id):
        if row.organization_id == organization_id:
            make_default(state, row)
            return reply_json({"organization_membership": row})
    raise not_found()


ROUTES = [
    ("GET", "/api/v2/organization_memberships", _list),
    ("POST", "/api/v2/organization_memberships", _create),
    ("POST", "/api/v2/organization_memberships/create_many", _create_many),
    ("DELETE", "/api/v2/organization_memberships/destroy_many", _destroy_many),
    ("GET", "/api/v2/organization_memberships/{id:int}", _show),
    ("DELETE", "/api/v2/organization_memberships/{id:int}", _delete),
    ("GET", "/api/v2/organizations/{id:int}/organization_memberships", _of_organization),
    ("GET", "/api/v2/users/{user_id:int}/organization_memberships", _of_user),
    ("POST", "/api/v2/users/{user_id:int}/organization_memberships", _create),
    ("GET", "/api/v2/users/{user_id:int}/organization_memberships/{id:int}", _show),
    ("DELETE", "/api/v2/users/{user_id:int}/organization_memberships/{id:int}", _delete),
    ("PUT", "/api/v2/users/{user_id:int}/organization_memberships/{id:int}/make_default", _make_default),
    ("PUT", "/api/v2/users/{user_id:int}/organizations/{organization_id:int}/make_default", _make_default_organization),
]
