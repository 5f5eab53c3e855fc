"""Incremental exports: by cursor for tickets and users, by time for these, organizations and what befell tickets.

https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/
Rows come in the order of their last change, the last minute is withheld, and a page by time runs over its size
rather than end between two rows of one second. Links carry another host, as they do on accounts with host mapping.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..web import Call, Reply, encode, joined
from .errors import bad_request, invalid_value, no_endpoint
from .models import Ticket, TicketEvent
from .paging import number
from .store import R, Table

if TYPE_CHECKING:
    from ..state import State

WITHHELD = 60
SAMPLE = 50
METRICS_PAGE = 100
Place = tuple[int, int]


def _is_sample(call: Call) -> bool:
    return call.path.endswith("/sample")


def _size(call: Call) -> int:
    if _is_sample(call):
        return SAMPLE
    if call.path.endswith("/ticket_metric_events"):
        return METRICS_PAGE
    size = number(call, "per_page", 1000)
    if not 1 <= size <= 1000:
        raise bad_request("per_page must lie between 1 and 1000")
    return size


def _start_time(state: State, call: Call) -> int:
    if not call.query.get("start_time"):
        raise bad_request("start_time is missing")
    start = number(call, "start_time", 0)
    if start > state.now - WITHHELD:
        raise invalid_value("Too recent start_time. Use a start_time older than 60 seconds")
    return start


def write_cursor(place: Place) -> str:
    """The opaque text that stands for a place in the export."""
    return base64.b64encode(f"{place[0]}.0||{place[1]}|".encode()).decode()


def read_cursor(text: str) -> Place:
    """The place that a cursor stands for."""
    try:
        second, _, rest = base64.b64decode(text, validate=True).decode().partition(".0||")
        return int(second), int(rest.rstrip("|"))
    except (ValueError, binascii.Error):
        raise invalid_value("Invalid cursor") from None


def _by_cursor(state: State, call: Call, name: str, table: Table[R]) -> tuple[list[int], dict[str, Any]]:
    size = _size(call)
    place = read_cursor(call.query["cursor"]) if call.query.get("cursor") else (_start_time(state, call), 0)
    found = table.since(place, int(state.now) - WITHHELD, size + 1)
    page = found[:size]
    cursor = write_cursor(page[-1] if page else place)
    host = state.settings.export_host or call.base
    query = urlencode({"cursor": cursor, **({"per_page": size} if "per_page" in call.query else {})})
    rest = {
        "after_url": f"{host}/api/v2/incremental/{name}/cursor.json?{query}",
        "after_cursor": cursor,
        "before_url": None,
        "before_cursor": None,
        "end_of_stream": len(found) <= size,
    }
    return [row_id for _, row_id in page], rest


def _by_time(state: State, call: Call, name: str, table: Table[R]) -> tuple[list[int], dict[str, Any]]:
    size, start = _size(call), _start_time(state, call)
    until = int(state.now) - WITHHELD
    page = table.since((start, 0), until, size)
    if page and not _is_sample(call):
        page = page + table.since(page[-1], min(page[-1][0], until), 1 << 31)
    end = page[-1][0] if page else start
    host = state.settings.export_host or call.base
    following = f"{host}/api/v2/incremental/{name}.json?{urlencode({'start_time': end})}"
    rest = {"count": len(page), "end_of_stream": len(page) < size, "end_time": end, "next_page": following}
    return [row_id for _, row_id in page], rest


def _ticket_page(state: State, call: Call, ids: list[int], rest: dict[str, Any]) -> Reply:
    store = state.zendesk
    if call.query.get("support_type_scope", "agent") not in ("agent", "all"):
        ids = []
    if call.query.get("exclude_deleted") == "true":
        ids = [key for key in ids if store.tickets.rows[key].status != "deleted"]
    wanted = call.query.get("include", "").split(",")
    tickets = [store.tickets.rows[key] for key in ids]
    if "users" in wanted:
        people = {key for row in tickets for key in (row.requester_id, row.submitter_id, row.assignee_id) if key}
        rest["users"] = [store.users.rows[key] for key in sorted(people) if key in store.users.rows]
    if "organizations" in wanted:
        homes = {row.organization_id for row in tickets if row.organization_id}
        rest["organizations"] = [store.organizations.rows[k] for k in sorted(homes) if k in store.organizations.rows]
    if "metric_sets" in wanted:
        rest["metric_sets"] = [metric_set(row) for row in tickets]
    return joined("tickets", [store.tickets.encoded(key) for key in ids], rest)


def metric_set(row: Ticket) -> dict[str, Any]:
    """The times of a ticket that the ticket itself does not carry."""
    solved = row.status in ("solved", "closed")
    return {
        "id": 420040000000 + row.id,
        "ticket_id": row.id,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "group_stations": 1,
        "assignee_stations": 1,
        "reopens": 0,
        "replies": 1 if solved else 0,
        "assignee_updated_at": row.updated_at,
        "requester_updated_at": row.created_at,
        "status_updated_at": row.updated_at,
        "initially_assigned_at": row.created_at,
        "assigned_at": row.created_at,
        "solved_at": row.updated_at if solved else None,
        "latest_comment_added_at": row.updated_at,
    }


def _tickets_cursor(state: State, call: Call) -> Reply:
    return _ticket_page(state, call, *_by_cursor(state, call, "tickets", state.zendesk.tickets))


def _tickets(state: State, call: Call) -> Reply:
    return _ticket_page(state, call, *_by_time(state, call, "tickets", state.zendesk.tickets))


def _users_cursor(state: State, call: Call) -> Reply:
    ids, rest = _by_cursor(state, call, "users", state.zendesk.users)
    return joined("users", [state.zendesk.users.encoded(key) for key in ids], rest)


def _users(state: State, call: Call) -> Reply:
    ids, rest = _by_time(state, call, "users", state.zendesk.users)
    return joined("users", [state.zendesk.users.encoded(key) for key in ids], rest)


def _organizations(state: State, call: Call) -> Reply:
    ids, rest = _by_time(state, call, "organizations", state.zendesk.organizations)
    return joined("organizations", [state.zendesk.organizations.encoded(key) for key in ids], rest)


def _ticket_events(state: State, call: Call) -> Reply:
    table = state.zendesk.ticket_events
    ids, rest = _by_time(state, call, "ticket_events", table)
    if "comment_events" not in call.query.get("include", "").split(","):
        return joined("ticket_events", [table.encoded(key) for key in ids], rest)
    rows = [with_comments(state, table.rows[key]) for key in ids]
    return joined("ticket_events", rows, rest)


def with_comments(state: State, row: TicketEvent) -> bytes:
    """A history entry with the texts of its comments."""
    ticket = state.zendesk.tickets.get(row.ticket_id)
    text = ticket.description if ticket is not None else ""
    comment = {"type": "Comment", "author_id": row.updater_id, "body": text, "public": True, "attachments": []}
    children = [{**child, **comment} if child["event_type"] == "Comment" else child for child in row.child_events]
    entry = {"id": row.id, "ticket_id": row.ticket_id, "timestamp": row.timestamp, "created_at": row.created_at}
    entry |= {"updater_id": row.updater_id, "via": row.via, "system": row.system, "event_type": row.event_type}
    return encode({**entry, "child_events": children, "merged_ticket_ids": row.merged_ticket_ids})


def _metric_events(state: State, call: Call) -> Reply:
    """What happened to the clocks of tickets: one entry for each entry of their history."""
    rows = state.zendesk.ticket_events.rows
    ids, rest = _by_time(state, call, "ticket_metric_events", state.zendesk.ticket_events)
    return joined("ticket_metric_events", [encode(metric_event(rows[key])) for key in ids], rest)


def metric_event(row: TicketEvent) -> dict[str, Any]:
    """An entry of a ticket's history as its clocks see it: begun, ended by a solution, or touched."""
    kinds = {child["event_type"] for child in row.child_events}
    solved = any(child.get("status") == "solved" for child in row.child_events)
    return {
        "id": row.id,
        "ticket_id": row.ticket_id,
        "metric": "requester_wait_time",
        "instance_id": 1,
        "type": "activate" if "Create" in kinds else "fulfill" if solved else "measure",
        "time": row.created_at,
        "deleted": False,
    }


def _sample(state: State, call: Call) -> Reply:
    """Up to 50 rows of an export, for looking at its form."""
    handlers = {
        "tickets": _tickets,
        "users": _users,
        "organizations": _organizations,
        "ticket_events": _ticket_events,
    }
    handler = handlers.get(call.params["resource"])
    if handler is None:
        raise no_endpoint()
    return handler(state, call)


ROUTES = [
    ("GET", "/api/v2/incremental/tickets/cursor", _tickets_cursor),
    ("GET", "/api/v2/incremental/tickets", _tickets),
    ("GET", "/api/v2/incremental/users/cursor", _users_cursor),
    ("GET", "/api/v2/incremental/users", _users),
    ("GET", "/api/v2/incremental/organizations", _organizations),
    ("GET", "/api/v2/incremental/ticket_events", _ticket_events),
    ("GET", "/api/v2/incremental/ticket_metric_events", _metric_events),
    ("GET", "/api/v2/incremental/{resource}/sample", _sample),
]
