"""Draws Zendesk as it is before the first sync: staff, requesters without an external id, and their tickets.

Three of four tickets come from people whose email QAD knows, the rest from strangers. Most were made within ten
days before now, some up to sixty; one is deleted.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from . import names
from .clock import iso
from .zendesk import fields, organizations, people
from .zendesk.models import Ticket, TicketEvent, User, custom_status_id, via

if TYPE_CHECKING:
    from .qad_store import Contact
    from .state import State

DAY = 86400
STAFF_EMAIL = "mina.walsh@support-desk.example"
GROUP_ID = 360000660001
STAFF = (
    ("Sandbox Admin", "admin@support-desk.example", "admin"),
    ("Mina Walsh", STAFF_EMAIL, "agent"),
    ("Theo Brandt", "theo.brandt@support-desk.example", "agent"),
    ("Grace Okafor", "grace.okafor@support-desk.example", "agent"),
)
CUSTOM_FIELDS = tuple(360000770001 + number for number in range(10))


def plant_zendesk(state: State, draw: Random) -> None:
    """Fill the simulated Zendesk; its own dates lie before the first ticket."""
    real = state.clock.now()
    state.clock.advance(-90 * DAY)
    for name, email, role in STAFF:
        values = {"name": name, "email": email, "role": role, "verified": True}
        person = people.create(state, values)
        if role == "admin":
            state.zendesk.admin_id = person.id
    fields.create(state, "organization_field", {"key": "region", "title": "Region", "type": "text"})
    fields.create(state, "user_field", {"key": "preferred_channel", "title": "Preferred channel", "type": "text"})
    _plant_organizations(state)
    times = sorted(_created(draw, real) for _ in range(state.size.tickets))
    _plant_tickets(state, draw, times, _requesters(state, draw), real)
    state.clock.advance(real - state.clock.now())
    state.stats.verification_mails = 0


def _plant_organizations(state: State) -> None:
    """One that has the name of a QAD customer but no external id, and one that QAD knows nothing of."""
    customers = list(state.qad.customers.values())
    if len(customers) > 2:
        values = {"name": customers[2].name, "notes": "Made by hand.", "tags": ["vip"], "details": "Key account"}
        organizations.create(state, values)
    organizations.create(state, {"name": "Walk-in enquiries", "tags": ["internal"]})


def _created(draw: Random, now: float) -> float:
    if draw.random() < 0.85:
        return now - 1800 - draw.random() * (10 * DAY - 1800)
    return now - (10 + draw.random() * 50) * DAY


def _updated(draw: Random, created: float, now: float) -> float:
    """Up to three days after, and two minutes ago at the latest. Spread, since exports stumble over a full second."""
    latest = min(created + 3 * DAY + 300, now - 120)
    return created + 300 + draw.random() ** 2 * (latest - created - 300)


def _requesters(state: State, draw: Random) -> tuple[list[User], list[User]]:
    """The users behind the tickets: (known to QAD by email, strangers)."""
    count = state.size.tickets
    if not count:
        return [], []
    known = [_person(state, row.name, row.email) for row in _writers(state, draw, max(count // 4, 3))]
    strangers = []
    for number in range(max(count // 16, 1)):
        name = names.person(draw)
        strangers.append(_person(state, name, f"{names.mailbox(name)}{number}@freemail{number % 7}.example"))
    return known, strangers


def _writers(state: State, draw: Random, count: int) -> list[Contact]:
    """Contacts who have written: the one of two customers, one with a shared mailbox, and others of one customer."""
    contacts = [row for row in state.qad.contacts.values() if "@" in row.email and row.email != STAFF_EMAIL]
    holders: dict[str, int] = {}
    for row in contacts:
        holders[row.email] = holders.get(row.email, 0) + 1
    single = [row for row in contacts if len(row.customers) == 1 and holders[row.email] == 1]
    double = [row for row in contacts if len(row.customers) > 1][:1]
    shared = [row for row in contacts if holders[row.email] > 1][:1]
    rest = draw.sample(single, min(len(single), max(count - 2, 1)))
    return [*rest[:1], *double, *shared, *rest[1:]]


def _person(state: State, name: str, email: str) -> User:
    found = state.zendesk.user_with_email(email)
    values = {"name": name, "email": email, "skip_verify_email": True}
    return found or people.create(state, values)


def _plant_tickets(
    state: State, draw: Random, times: list[float], writers: tuple[list[User], list[User]], now: float
) -> None:
    store = state.zendesk
    known, strangers = writers
    agents = [row.id for row in store.users if row.role == "agent"]
    rows, history = [], []
    forms = [_custom_fields(draw) for _ in range(64)]
    for index, created in enumerate(times):
        pool = strangers if index % 4 == 3 or not known else known
        requester = pool[index] if index < len(pool) and index < 3 else draw.choice(pool)
        status = "deleted" if index == len(times) // 2 and len(times) > 4 else _status(draw, now - created)
        updated = created if status == "new" else _updated(draw, created, now)
        row = _ticket(state, draw, requester, agents, (created, updated), status, draw.choice(forms))
        rows.append((row, row.generated_timestamp))
        store.tickets_of_user[requester.id].add(row.id)
        history.extend(_history(state, row, created, updated))
    store.tickets.load(rows)
    store.ticket_events.load((entry, entry.timestamp) for entry in history)


def _status(draw: Random, age: float) -> str:
    if age > 20 * DAY:
        return draw.choice(("closed", "closed", "solved", "pending"))
    return draw.choice(("new", "open", "open", "pending", "hold", "solved", "solved"))


def _ticket(
    state: State,
    draw: Random,
    requester: User,
    agents: list[int],
    times: tuple[float, float],
    status: str,
    values: list[dict[str, Any]],
) -> Ticket:
    """One ticket. `values` may be shared with other tickets: changes replace such lists, they never alter them."""
    store, (created, updated) = state.zendesk, times
    new_id = store.new_id("tickets")
    subject = draw.choice(names.SUBJECTS)
    assigned = status != "new"
    return Ticket(
        id=new_id,
        url=store.url("tickets", new_id),
        subject=subject,
        created_at=iso(created),
        updated_at=iso(updated),
        generated_timestamp=int(updated),
        requester_id=requester.id,
        submitter_id=requester.id,
        via={**via("email"), "source": _source(requester)},
        type=draw.choice((None, "question", "incident", "problem")),
        raw_subject=subject,
        description=" ".join(draw.choices(names.SENTENCES, k=draw.randrange(3, 9))) + names.FOOTER,
        priority=draw.choice((None, "low", "normal", "high", "urgent")),
        status=status,
        recipient="help@support-desk.example",
        assignee_id=draw.choice(agents) if assigned else None,
        group_id=GROUP_ID if assigned else None,
        organization_id=requester.organization_id,
        tags=sorted(draw.sample(("spare_parts", "quality", "delivery", "invoice", "warranty"), 2)),
        custom_fields=values,
        fields=values,
        custom_status_id=custom_status_id(status),
        encoded_id=f"{new_id * 2654435761 % 2**32:08X}-{new_id:04X}",
    )


def _source(requester: User) -> dict[str, Any]:
    sender = {"address": requester.email, "name": requester.name}
    return {"from": sender, "to": {"name": "Support", "address": "help@support-desk.example"}, "rel": None}


def _custom_fields(draw: Random) -> list[dict[str, Any]]:
    values: list[Any] = [draw.choice((None, "", "40-118-7", "RMA-2231", False)) for _ in CUSTOM_FIELDS]
    return [{"id": key, "value": value} for key, value in zip(CUSTOM_FIELDS, values, strict=True)]


def _history(state: State, row: Ticket, created: float, updated: float) -> list[TicketEvent]:
    """How the ticket came to be what it is: made, taken up, and brought to its status."""
    store = state.zendesk
    steps: list[tuple[float, int, list[dict[str, Any]]]] = [
        (
            created,
            row.requester_id,
            [{"event_type": "Create", "status": "new", "subject": row.subject}, {"event_type": "Comment"}],
        )
    ]
    agent = row.assignee_id or store.admin_id
    if row.status not in ("new", "open"):
        middle = created + (updated - created) / 2
        steps.append((middle, agent, [{"event_type": "Change", "status": "open", "previous_value": "new"}]))
    if row.status != "new":
        before = "new" if row.status == "open" else "open"
        steps.append((updated, agent, [{"event_type": "Change", "status": row.status, "previous_value": before}]))
    return [_entry(state, row, at, who, children) for at, who, children in steps]


def _entry(state: State, row: Ticket, at: float, who: int, children: list[dict[str, Any]]) -> TicketEvent:
    store = state.zendesk
    head = {"via": "Mail", "via_reference_id": None}
    made = [{"id": store.new_id("events"), **head, **child} for child in children]
    return TicketEvent(store.new_id("events"), row.id, int(at), iso(at), who, "Mail", made)
