"""The sandbox's own interface under `/_sandbox`: look inside, set the clock, spoil calls, change records.

It needs no login, it is never rate limited, and its calls are not counted. The body of each call is a JSON object.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from .clock import iso, parse_instant
from .qad_store import SHARED_SET, Contact, Customer
from .web import Call, Refusal, Reply, refuse, reply_json
from .zendesk import events, tickets
from .zendesk.deliveries import Parcel, listens
from .zendesk.models import Ticket

if TYPE_CHECKING:
    from .state import State

TICKET_KINDS = {"created": "created", "updated": "comment_added", "solved": "status_changed"}
OLD = 3600


def _stats(state: State, _call: Call) -> Reply:
    return reply_json(state.stats.as_dict())


def _reset_stats(state: State, _call: Call) -> Reply:
    state.stats.clear()
    return reply_json({"ok": True})


def _reset(state: State, _call: Call) -> Reply:
    state.reset()
    return reply_json({"ok": True})


def _plain(rows: Iterable[Any]) -> list[Any]:
    return [msgspec.to_builtins(row) for row in rows]


def look_inside(state: State) -> dict[str, Any]:
    """Every record of both systems, and how many there are of each."""
    store = state.zendesk
    ticket_keys = ["id", "status", "requester_id", "organization_id", "created_at", "updated_at", "generated_timestamp"]
    zendesk: dict[str, list[Any]] = {
        "organizations": _plain(store.organizations),
        "users": _plain(store.users),
        "organization_memberships": _plain(store.memberships),
        "identities": _plain(store.identities),
        "organization_fields": list(store.organization_fields.values()),
        "user_fields": list(store.user_fields.values()),
        "webhooks": [{**row, "signing_secret": store.secrets.get(key)} for key, row in store.webhooks.items()],
        "triggers": list(store.triggers.values()),
        "tickets": [{key: getattr(row, key) for key in ticket_keys} for row in store.tickets],
    }
    qad: dict[str, list[Any]] = {
        "customers": _plain(state.qad.customers.values()),
        "contacts": _plain(state.qad.contacts.values()),
    }
    counts = {name: len(rows) for name, rows in {**zendesk, **qad}.items()}
    counts["ticket_events"] = len(store.ticket_events)
    now = {"epoch": state.now, "iso": iso(state.now)}
    return {"now": now, "counts": counts, **zendesk, "qad": qad, "admin_id": store.admin_id}


def _state(state: State, _call: Call) -> Reply:
    return reply_json(look_inside(state))


def _clock(state: State, call: Call) -> Reply:
    if call.method == "POST":
        body = call.json()
        unknown = sorted(set(body) - {"advance", "now", "frozen"})
        if unknown:
            raise refuse(400, {"error": "UnknownSetting", "unknown": unknown})
        if body.get("frozen") is not None:
            state.clock.freeze() if body["frozen"] else state.clock.run()
        if body.get("now") is not None:
            state.clock.set(parse_instant(str(body["now"])))
        state.clock.advance(float(body.get("advance") or 0))
        state.settle()
    return reply_json({"now": state.now, "iso": iso(state.now), "frozen": state.clock.frozen})


def _limits(state: State, call: Call) -> Reply:
    rates = state.limits.rates
    if call.method == "POST":
        body = call.json()
        unknown = sorted(set(body) - set(asdict(rates)))
        if unknown:
            raise refuse(400, {"error": "UnknownSetting", "unknown": unknown, "known": sorted(asdict(rates))})
        for name, value in body.items():
            setattr(rates, name, value)
    return reply_json(asdict(rates))


def _settings(state: State, call: Call) -> Reply:
    if call.method == "POST":
        unknown = state.settings.change(call.json())
        if unknown:
            known = sorted(asdict(state.settings))
            raise refuse(400, {"error": "UnknownSetting", "unknown": unknown, "known": known})
    return reply_json(asdict(state.settings))


def _tokens(state: State, call: Call) -> Reply:
    """Let tokens die: `{"expire": "access"}`, `{"revoke": true}`, `{"qad": true}`."""
    body = call.json()
    if body.get("expire") == "access":
        state.tokens.expire_access()
    if body.get("revoke"):
        state.tokens.revoke_all()
    if body.get("qad"):
        state.qad_access.access.clear()
        state.qad_access.cookies.clear()
    return reply_json({"ok": True})


def _faults(state: State, call: Call) -> Reply:
    if call.method == "POST":
        body = call.json()
        for rule in body.get("rules") or [body]:
            state.faults.add(rule)
    if call.method == "DELETE":
        state.faults.clear()
    return reply_json({"faults": state.faults.listed()})


def _ticket_values(body: dict[str, Any]) -> dict[str, Any]:
    values = {key: body[key] for key in tickets.CHANGEABLE if key in body}
    if body.get("comment") is not None:
        values["comment"] = {"body": body["comment"]} if isinstance(body["comment"], str) else body["comment"]
    return values


def _ticket(state: State, call: Call) -> Reply:
    """Make a ticket, or change the one named by `id`; with `wait` the answer tells what the receivers said."""
    body = call.json()
    if body.get("id") is None:
        row, sent = _make_ticket(state, body)
    else:
        found = state.zendesk.tickets.get(body["id"])
        if found is None:
            raise _unknown("ticket")
        row, sent = found, _change_ticket(state, found, body)
    shown = msgspec.to_builtins(row)
    if not body.get("wait"):
        return reply_json({"ticket": shown, "deliveries": len(sent)})
    return Reply(later=lambda: reply_json({"ticket": shown, "deliveries": [future.result() for future in sent]}))


def _make_ticket(state: State, body: dict[str, Any]) -> tuple[Ticket, list[Future[dict[str, Any]]]]:
    values: dict[str, Any] = {"description": "A ticket made through the sandbox.", **_ticket_values(body)}
    values["subject"] = body.get("subject") or "Made in the sandbox"
    if body.get("requester_email"):
        name = body.get("requester_name") or str(body["requester_email"]).partition("@")[0]
        values["requester"] = {"email": body["requester_email"], "name": name}
    for name in ("description", "requester"):
        if name in body:
            values[name] = body[name]
    return tickets.create_and_tell(state, values)


def _change_ticket(state: State, row: Ticket, body: dict[str, Any]) -> list[Future[dict[str, Any]]]:
    if body.get("permanently_deleted"):
        return tickets.remove_for_good(state, row)
    if body.get("deleted") is not None:
        gone = bool(body["deleted"])
        happening = "soft_deleted" if gone else "undeleted"
        return tickets.change(state, row, {"status": "deleted" if gone else "open"}, happening)
    if body.get("merged"):
        return tickets.change(state, row, {"status": "closed", "tags": [*row.tags, "closed_by_merge"]}, "merged")
    values = _ticket_values(body)
    if not values:
        values = {"comment": {"body": "Another word."}}
    return tickets.change(state, row, values)


def _unknown(noun: str) -> Refusal:
    return refuse(404, {"error": f"unknown {noun}"})


def _apply(row: Any, body: dict[str, Any], ignored: tuple[str, ...]) -> None:
    known = set(row.__struct_fields__)
    unknown = sorted(set(body) - known - set(ignored))
    if unknown:
        raise refuse(400, {"error": "UnknownField", "unknown": unknown, "known": sorted(known)})
    for name in known & set(body):
        value = body[name]
        setattr(row, name, parse_instant(str(value)) if name == "modified" else value)


def _customer(state: State, call: Call) -> Reply:
    """Make or change the customer `code`; with `delete` it goes, and its contacts with it."""
    body, store = call.json(), state.qad
    code = str(body.get("code") or "")
    if not code:
        raise refuse(400, {"error": "code is missing"})
    row = store.customers.get(code)
    if body.get("delete"):
        if row is None:
            raise _unknown("customer")
        store.remove_customer(code)
        return reply_json({"deleted": code})
    if row is None:
        relation = f"BR-{code[1:]}"
        name = str(body.get("name") or f"Customer {code}")
        search = name.split()[0].upper()[:28]
        row = Customer(code, name, relation, search, "1 Mill Lane", "Leeds", "LS1 4AP", "GBR", "", None, "OEM", 0.0)
        row.shared_set = SHARED_SET
    row.modified = state.now
    _apply(row, body, ("delete",))
    store.put_customer(row)
    if "domain" in body:
        store.redraw_contacts_of(row.code)
    return reply_json({"customer": msgspec.to_builtins(row)})


def _contact(state: State, call: Call) -> Reply:
    """Make a contact, or change the one named by `id`; `customers` lists the codes that it belongs to."""
    body, store = call.json(), state.qad
    contact_id = body.get("id") or max(store.contacts, default=50000) + 1
    row = store.contacts.get(contact_id)
    if body.get("delete"):
        if row is None:
            raise _unknown("contact")
        store.remove_contact(contact_id)
        return reply_json({"deleted": contact_id})
    if row is None:
        homes = list(body.get("customers") or [])
        relation = store.customers[homes[0]].business_relation if homes and homes[0] in store.customers else ""
        row = Contact(contact_id, f"Contact {contact_id}", "", "", "", "", "", relation, homes, 0.0)
    row.modified = state.now
    _apply(row, body, ("delete",))
    store.put_contact(row)
    return reply_json({"contact": msgspec.to_builtins(row)})


def _deliver(state: State, call: Call) -> Reply:
    """Deliver an event of a ticket to every webhook that is there for it, rightly or wrongly signed."""
    body = call.json()
    row = state.zendesk.tickets.get(body.get("ticket_id", 0))
    kind, tamper = body.get("type", "updated"), body.get("tamper")
    if row is None or kind not in TICKET_KINDS or tamper not in (None, "forged", "stale", "twice"):
        known = {"type": sorted(TICKET_KINDS), "tamper": [None, "forged", "stale", "twice"]}
        raise refuse(400, {"error": "ticket_id, type or tamper is unknown", "known": known})
    parcels = list(_parcels(state, row, kind))
    for parcel in parcels:
        _tamper(state, parcel, tamper)
    times = 2 if tamper == "twice" else 1

    def later() -> Reply:
        results = [state.courier.carry(parcel) for parcel in parcels for _ in range(times)]
        return reply_json({"deliveries": results, "statuses": [result["status"] for result in results]})

    return Reply(later=later)


def _parcels(state: State, row: Ticket, kind: str) -> Iterable[Parcel]:
    name = TICKET_KINDS[kind]
    before = {"status": "new" if kind == "updated" else "open"}
    shown = msgspec.structs.replace(row, status="solved") if kind == "solved" else row
    for webhook in state.zendesk.webhooks.values():
        event = name if listens(webhook, name) or kind != "updated" else _any_event(webhook)
        if webhook["status"] == "active" and event and listens(webhook, event):
            event_id, body = events.payload(state, shown, event, before)
            yield state.courier.parcel(webhook, body, f"ticket.{event}", event_id)
    for webhook, body in events.triggered(state, shown, before if kind == "solved" else {}, [name]):
        yield state.courier.parcel(webhook, body, "conditional_ticket_events", "")


def _any_event(webhook: dict[str, Any]) -> str:
    found = [str(name).removeprefix("zen:event-type:ticket.") for name in webhook["subscriptions"]]
    fitting = [name for name in found if name.endswith("_changed")]
    return fitting[0] if fitting else ""


def _tamper(state: State, parcel: Parcel, tamper: str | None) -> None:
    if tamper == "forged":
        parcel.secret = "not the secret"
    if tamper == "stale":
        parcel.timestamp = iso(state.now - OLD)


ROUTES = [
    ("GET", "/_sandbox/stats", _stats),
    ("POST", "/_sandbox/reset-stats", _reset_stats),
    ("GET", "/_sandbox/state", _state),
    ("POST", "/_sandbox/reset", _reset),
    ("GET POST", "/_sandbox/clock", _clock),
    ("GET POST", "/_sandbox/limits", _limits),
    ("GET POST", "/_sandbox/settings", _settings),
    ("POST", "/_sandbox/tokens", _tokens),
    ("GET POST DELETE", "/_sandbox/faults", _faults),
    ("POST", "/_sandbox/tickets", _ticket),
    ("POST", "/_sandbox/customers", _customer),
    ("POST", "/_sandbox/contacts", _contact),
    ("POST", "/_sandbox/webhooks/deliver", _deliver),
]
