"""Tickets: each change moves `generated_timestamp`, writes history, and fires webhooks and triggers.

https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ..clock import iso
from ..web import Call, Reply, encode, joined
from . import jobs, oddities, people
from .errors import Invalid, bad_request, not_found
from .models import Ticket, TicketEvent, custom_status_id, via
from .paging import chosen, listed, listed_ids

if TYPE_CHECKING:
    from ..state import State

ACCOUNT_ID = 21000042
CHANGEABLE = [
    "subject",
    "status",
    "priority",
    "type",
    "organization_id",
    "requester_id",
    "assignee_id",
    "group_id",
    "external_id",
    "tags",
    "custom_fields",
    "problem_id",
    "due_at",
    "collaborator_ids",
    "email_cc_ids",
    "ticket_form_id",
    "brand_id",
]
STATUSES = ("new", "open", "pending", "hold", "solved", "closed", "deleted")


Sent = list[Future[dict[str, Any]]]


def create(state: State, values: dict[str, Any]) -> Ticket:
    """Make a ticket; without an organization it takes its requester's default one."""
    return create_and_tell(state, values)[0]


def create_and_tell(state: State, values: dict[str, Any]) -> tuple[Ticket, Sent]:
    """Make a ticket: it, and the deliveries that this set off."""
    store, now = state.zendesk, state.now
    requester_id = _requester(state, values)
    requester = store.users.rows[requester_id]
    comment = values.get("comment")
    text = str((comment.get("body") if isinstance(comment, dict) else None) or values.get("description") or "")
    if not text:
        raise Invalid("base", "Description: cannot be blank", "BlankValue", "TicketCreateFailed")
    new_id, stamp = store.new_id("tickets"), iso(now)
    subject = str(values.get("subject") or text[:80])
    row = Ticket(new_id, store.url("tickets", new_id), subject, stamp, stamp, int(now), requester_id, requester_id)
    row.raw_subject, row.description = subject, text
    for key in CHANGEABLE:
        if values.get(key) is not None and key != "subject":
            setattr(row, key, values[key])
    row.requester_id = requester_id
    if values.get("organization_id") is None:
        row.organization_id = requester.organization_id
    row.custom_status_id = custom_status_id(row.status)
    row.fields = row.custom_fields
    store.tickets.add(row, now)
    store.tickets_of_user[requester_id].add(new_id)
    note(state, row, [{"event_type": "Create", "status": row.status, "subject": subject}, {"event_type": "Comment"}])
    return row, state.courier.ticket_changed(row, {}, ["created"])


def change(state: State, row: Ticket, values: dict[str, Any], happening: str | None = None) -> Sent:
    """Change the given fields; the deliveries that this set off. A closed ticket is refused."""
    status = values.get("status", row.status)
    if status not in STATUSES:
        raise Invalid("status", f"Status: {status} is not valid", "InvalidValue")
    before = {key: getattr(row, key) for key in CHANGEABLE if key in values and getattr(row, key) != values[key]}
    if row.status == "closed" and before and happening is None:
        raise Invalid("status", "Status: closed prevents ticket update", "InvalidValue")
    if "requester_id" in before:
        if values["requester_id"] not in state.zendesk.users.rows:
            raise Invalid("requester", "Requester: is invalid", "InvalidValue")
        state.zendesk.tickets_of_user[row.requester_id].discard(row.id)
        state.zendesk.tickets_of_user[values["requester_id"]].add(row.id)
    for key in before:
        setattr(row, key, values[key])
    row.raw_subject, row.fields = row.subject, row.custom_fields
    row.custom_status_id = custom_status_id(row.status)
    children = [
        {"event_type": "Change", key: _word(getattr(row, key)), "previous_value": _word(old)}
        for key, old in before.items()
    ]
    names = [f"{_event_name(key)}_changed" for key in before]
    if values.get("comment"):
        children.append({"event_type": "Comment"})
        names.append("comment_added")
    if happening is not None:
        names = [happening]
    touch(state, row)
    note(state, row, children)
    return state.courier.ticket_changed(row, before, names) if names else []


def touch(state: State, row: Ticket) -> None:
    """Move the ticket to now."""
    row.updated_at, row.generated_timestamp = iso(state.now), int(state.now)
    state.zendesk.tickets.changed(row, state.now)


def note(state: State, row: Ticket, children: list[dict[str, Any]], at: float | None = None) -> TicketEvent:
    """Write one entry of the ticket's history."""
    store, now = state.zendesk, state.now if at is None else at
    entry = TicketEvent(store.new_id("events"), row.id, int(now), iso(now), store.admin_id, "Web service", [])
    entry.child_events = [
        {"id": store.new_id("events"), "via": "Web service", "via_reference_id": None, **child} for child in children
    ]
    store.ticket_events.add(entry, now)
    return entry


def remove_for_good(state: State, row: Ticket) -> Sent:
    """Delete permanently: the ticket is gone from every answer."""
    sent = state.courier.ticket_changed(row, {}, ["permanently_deleted"])
    state.zendesk.tickets_of_user[row.requester_id].discard(row.id)
    state.zendesk.tickets.remove(row.id)
    return sent


def _event_name(key: str) -> str:
    names = {"organization_id": "organization", "requester_id": "requester", "custom_fields": "custom_field"}
    names |= {"assignee_id": "agent_assignment", "group_id": "group_assignment", "problem_id": "problem_link"}
    return names.get(key, key)


def _word(value: Any) -> Any:
    return None if value is None else value if isinstance(value, list) else str(value)


def _requester(state: State, values: dict[str, Any]) -> int:
    person = values.get("requester")
    if isinstance(person, dict) and person.get("email"):
        found = state.zendesk.user_with_email(str(person["email"]))
        named = {"name": str(person["email"]).partition("@")[0], "skip_verify_email": True, **person}
        return (found or people.create(state, named)).id
    given = values.get("requester_id") or state.zendesk.admin_id
    if given not in state.zendesk.users.rows:
        raise Invalid("requester", "Requester: is invalid", "InvalidValue")
    return int(given)


def _answer(state: State, row: Ticket) -> Reply:
    return Reply(200, b'{"ticket":' + state.zendesk.tickets.encoded(row.id) + b"}")


def _written(state: State, row: Ticket, status: int) -> Reply:
    """A ticket with the audit of the change that was made to it just now."""
    store = state.zendesk
    entry = store.ticket_events.rows[store.ticket_events.order[-1]]
    events = [{"id": child["id"], "type": child["event_type"]} for child in entry.child_events]
    audit = {
        "id": entry.id,
        "ticket_id": row.id,
        "created_at": entry.created_at,
        "author_id": entry.updater_id,
        "metadata": {"system": entry.system, "custom": {}},
        "events": events,
        "via": via("api"),
    }
    return Reply(status, b'{"ticket":' + store.tickets.encoded(row.id) + b',"audit":' + encode(audit) + b"}")


def _row(state: State, call: Call) -> Ticket:
    row = state.zendesk.tickets.get(call.params["id"])
    if row is None or row.status == "deleted":
        raise not_found()
    return row


def _body(call: Call) -> dict[str, Any]:
    values = call.json().get("ticket")
    if not isinstance(values, dict):
        raise bad_request("ticket is missing")
    return values


def _list(state: State, call: Call) -> Reply:
    return listed(call, "tickets", state.zendesk.tickets, lambda row: row.status != "deleted")


def _show(state: State, call: Call) -> Reply:
    return _answer(state, _row(state, call))


def _show_many(state: State, call: Call) -> Reply:
    rows = state.zendesk.tickets.rows
    ids = [key for key in dict.fromkeys(listed_ids(call)) if key in rows and rows[key].status != "deleted"]
    rest = {"next_page": None, "previous_page": None, "count": len(ids)}
    return joined("tickets", [state.zendesk.tickets.encoded(key) for key in ids], rest)


def _create(state: State, call: Call) -> Reply:
    return _written(state, create(state, _body(call)), 201)


def _update(state: State, call: Call) -> Reply:
    row = _row(state, call)
    state.limits.ticket_update(row.id)
    values = _body(call)
    if values.get("status") == "deleted":
        raise Invalid("status", "Status: deleted is not valid", "InvalidValue")
    change(state, row, values)
    return _written(state, row, 200)


def _delete(state: State, call: Call) -> Reply:
    change(state, _row(state, call), {"status": "deleted"}, "soft_deleted")
    return Reply(204)


def _update_many(state: State, call: Call) -> Reply:
    def item(state: State, _index: int, values: dict[str, Any]) -> dict[str, Any]:
        row = state.zendesk.tickets.get(values.get("id", 0))
        if row is None or row.status == "deleted":
            raise not_found()
        change(state, row, {key: value for key, value in values.items() if key != "id"})
        return {"action": "update", "id": row.id, "status": "Updated", "success": True}

    ids, body = listed_ids(call), call.json()
    rows = [{**(body.get("ticket") or {}), "id": key} for key in ids] if ids else body.get("tickets") or []
    return jobs.start(state, call, "Bulk Update Ticket", "Updating", rows, item, oddities.documented("update"))


def _destroy_many(state: State, call: Call) -> Reply:
    def item(state: State, _index: int, values: dict[str, Any]) -> dict[str, Any]:
        row = state.zendesk.tickets.get(values["id"])
        if row is None or row.status == "deleted":
            raise not_found()
        change(state, row, {"status": "deleted"}, "soft_deleted")
        return {"action": "delete", "id": values["id"], "status": "Deleted", "success": True}

    rows = [{"id": key} for key in listed_ids(call)]
    return jobs.start(state, call, "Bulk Delete Ticket", "Deleting", rows, item, oddities.documented("delete"))


def _create_many(state: State, call: Call) -> Reply:
    def item(state: State, index: int, values: dict[str, Any]) -> dict[str, Any]:
        return {"account_id": ACCOUNT_ID, "id": create(state, values).id, "index": index}

    rows, failed = call.json().get("tickets") or [], oddities.indexed("TicketCreateFailed")
    return jobs.start(state, call, "Bulk Create Ticket", "Creating Tickets", rows, item, failed)


def _of_user(state: State, call: Call) -> Reply:
    rows = state.zendesk.tickets.rows
    ids = [key for key in state.zendesk.tickets_of_user[call.params["id"]] if rows[key].status != "deleted"]
    return chosen(call, "tickets", state.zendesk.tickets, ids)


ROUTES = [
    ("GET", "/api/v2/tickets", _list),
    ("POST", "/api/v2/tickets", _create),
    ("GET", "/api/v2/tickets/show_many", _show_many),
    ("PUT", "/api/v2/tickets/update_many", _update_many),
    ("POST", "/api/v2/tickets/create_many", _create_many),
    ("DELETE", "/api/v2/tickets/destroy_many", _destroy_many),
    ("GET", "/api/v2/tickets/{id:int}", _show),
    ("PUT", "/api/v2/tickets/{id:int}", _update),
    ("DELETE", "/api/v2/tickets/{id:int}", _delete),
    ("GET", "/api/v2/users/{id:int}/tickets/requested", _of_user),
]
