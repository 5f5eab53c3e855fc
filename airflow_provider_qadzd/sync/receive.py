"""The one receive path: every ticket, however it was heard of, comes through `store_tickets`.

A webhook's delivery is committed as it came (`accept`) and only says what to fetch; `drain` fetches it. The exports
bring tickets by themselves. All end in the same transaction: the ticket's row, replaced only by one that is not older;
its QAD customer, or the reason why there is none; the events that the sensor reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger, Transaction, changes, exports, matching, tickets
from airflow_provider_qadzd.ledger.store import epoch_of
from airflow_provider_qadzd.sync.match import Match, match
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.webhook import Delivery, read_again
from airflow_provider_qadzd.zendesk.wire import NotFound

_FETCH, _LOOK = 100, 1000
_MOST_BATCHES = 1000
_PAGE = 5000
_GONE_STATUS = "deleted"
_MATCHED = "matched"


# -- a delivery --------------------------------------------------------------------------------------------------------


def accept(ledger: Ledger, account_id: int, delivery: Delivery, body: bytes) -> bool:
    """Commit a verified delivery; False if it is a repeat. It is answered 2xx only after this returned."""
    return tickets.store_delivery(ledger, inbox_row(account_id, delivery, body))


def inbox_row(account_id: int, delivery: Delivery, body: bytes) -> dict[str, Any]:
    """A verified delivery as the inbox keeps it."""
    return {
        "account_id": account_id, "payload_id": delivery.payload_id, "signature": delivery.signature,
        "body": body, "kind": delivery.kind, "ticket_id": delivery.ticket_id, "occurred_at": delivery.occurred_at,
    }  # fmt: skip


@dataclass(slots=True)
class Drained:
    """What a drain did: deliveries drained, deliveries set aside as unreadable, tickets that moved, tickets gone."""

    drained: int = 0
    aside: int = 0
    moved: int = 0
    gone: int = 0


def drain(ledger: Ledger, account_id: int, client: ZendeskClient, done: Drained | None = None) -> Drained:
    """Fetch the tickets that pending deliveries name, a hundred a call, until nothing is pending.

    What it does is added to `done` with each batch, so that whoever is stopped in between can tell and go on.
    """
    done = done or Drained()
    for _ in range(_MOST_BATCHES):
        pending = tickets.pending_deliveries(ledger, account_id, _LOOK)
        if not pending:
            break
        _drain_batch(ledger, account_id, client, _about_some_tickets(pending), done)
    return done


@dataclass(frozen=True, slots=True)
class _Told:
    """A pending delivery, the ticket that it names (None if it names none that can be read), and what became of it."""

    row: tickets.DeliveryRow
    ticket_id: int | None
    kind: str


def _about_some_tickets(pending: Sequence[tickets.DeliveryRow]) -> list[_Told]:
    """The oldest deliveries that together name as many tickets as one call fetches, however often they name each."""
    told, named = list[_Told](), set[int]()
    for row in pending:
        one = _Told(row, *_about(row))
        if one.ticket_id is not None:
            if len(named) == _FETCH and one.ticket_id not in named:
                break
            named.add(one.ticket_id)
        told.append(one)
    return told


def _about(row: tickets.DeliveryRow) -> tuple[int | None, str]:
    """The ticket and kind of a delivery. One that was set aside and opened again may be readable by now."""
    if row.ticket_id is not None or row.body is None:
        return row.ticket_id, row.kind
    again = read_again(row.body)
    return (None, row.kind) if again is None else (again.ticket_id, again.kind)


def _drain_batch(
    ledger: Ledger, account_id: int, client: ZendeskClient, told: Sequence[_Told], done: Drained
) -> None:  # fmt: skip
    now = ledger.clock.time()  # before asking: of two fetches of one version, the one asked for later is newer
    answer = _fetch(client, sorted({one.ticket_id for one in told if one.ticket_id is not None}))
    readable = [one for one in told if one.ticket_id is not None and one.ticket_id not in answer.refused]
    poison = [one.row for one in told if one.ticket_id is None]
    refused = [one.row for one in told if one.ticket_id in answer.refused]
    with ledger.writing() as tx:
        known = tickets.known_tickets(tx, account_id, sorted(answer.gone))
        rows = [ticket_row(one, now) for one in answer.there]
        rows += [_gone_row(ticket_id, known.get(ticket_id), now) for ticket_id in sorted(answer.gone)]
        stored = store_tickets(tx, ledger, account_id, rows)
        drained = tickets.end_deliveries(tx, ledger, [one.row for one in readable], "drained")
        events = [
            tickets.event_of(
                stored.rows[one.ticket_id], one.kind, "webhook", one.row.occurred_at, one.row.delivery_id
            )
            for one in readable
            if one.ticket_id is not None and one.row.delivery_id in drained
        ]  # fmt: skip
        tickets.add_events(tx, ledger, account_id, events)
        aside = tickets.end_deliveries(tx, ledger, poison, "aside", "names no ticket that can be read")
        aside |= tickets.end_deliveries(tx, ledger, refused, "aside", "Zendesk does not accept the ticket's number")
    done.drained += len(drained)
    done.aside += len(aside)
    done.moved += len(stored.moved)
    done.gone += len(answer.gone)


@dataclass(slots=True)
class _Fetched:
    """Tickets as they are now, those that Zendesk says do not exist, and numbers that it does not take for one."""

    there: list[Mapping[str, Any]]
    gone: set[int]
    refused: set[int]


_NO_TICKET = (400, 414, 422)
"""What is answered to a number that cannot be a ticket's. Credentials (401, 403) and limits are another matter."""


def _fetch(client: ZendeskClient, ids: Sequence[int]) -> _Fetched:
    """What became of those tickets. One that is left out of a list is asked for by itself: left out is not gone.

    Where the list is refused as a whole, each is asked for by itself, so that one bad number holds up no other.
    """
    fetched = _Fetched([], set(), set())
    try:
        fetched.there += client.tickets.show_many(ids) if ids else []
    except FixFirst as error:
        if error.facts.status not in _NO_TICKET:
            raise
    for ticket_id in sorted(set(ids) - {int(row["id"]) for row in fetched.there}):
        try:
            fetched.there.append(client.tickets.show(ticket_id))
        except NotFound:
            fetched.gone.add(ticket_id)
        except FixFirst as error:
            if error.facts.status not in _NO_TICKET:
                raise
            fetched.refused.add(ticket_id)
    return fetched


# -- a ticket ----------------------------------------------------------------------------------------------------------


def ticket_row(sent: Mapping[str, Any], fetched_epoch: float, solved_at: str | None = None) -> dict[str, Any]:
    """A ticket as Zendesk sent it, as the ledger keeps it: never its description.

    `solved_at` is None where Zendesk was not asked for it: then what is known of it stays while it can be so.
    """
    updated_at = sent.get("updated_at") or ""
    version = sent.get("generated_timestamp") or (epoch_of(updated_at) if updated_at else 0)
    status = str(sent.get("status") or "")
    return {
        "ticket_id": int(sent["id"]), "version_epoch": float(version), "fetched_epoch": fetched_epoch,
        "status": status, "gone": status == _GONE_STATUS, "subject": _text(sent.get("subject")),
        "priority": sent.get("priority") or "", "ticket_type": sent.get("type") or "",
        "external_id": _text(sent.get("external_id")), "requester_id": sent.get("requester_id"),
        "organization_id": sent.get("organization_id"), "assignee_id": sent.get("assignee_id"),
        "group_id": sent.get("group_id"), "created_at": sent.get("created_at") or "", "updated_at": updated_at,
        "solved_at": solved_at, "tags": sent.get("tags") or [],
        "custom_fields": sent.get("custom_fields") or [],
    }  # fmt: skip


def _text(value: object) -> str:
    """Free text as both databases take it: PostgreSQL refuses a NUL in one."""
    return str(value).replace("\0", "") if value else ""


def _gone_row(ticket_id: int, known: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    """A ticket that Zendesk does not have any more: what was known of it stays, with the state `deleted`."""
    base = dict(known) if known else ticket_row({"id": ticket_id, "updated_at": ""}, now)
    base.pop("account_id", None)
    return {**base, "status": _GONE_STATUS, "gone": True, "fetched_epoch": now}


@dataclass(frozen=True, slots=True)
class Stored:
    """What storing tickets did: ids whose state moved, their rows before (if any), and every id's row as it stands."""

    moved: frozenset[int]
    before: Mapping[int, Mapping[str, Any]]
    rows: Mapping[int, Mapping[str, Any]]


def store_tickets(tx: Transaction, ledger: Ledger, account_id: int, rows: Sequence[Mapping[str, Any]]) -> Stored:
    """Replace what is older than `rows`, match each to its customer, and audit where a customer moved."""
    newest: dict[int, Mapping[str, Any]] = {}
    for row in tickets.without_forgotten(tx, account_id, rows):
        seen = newest.get(row["ticket_id"])
        if seen is None or _version(row) >= _version(seen):
            newest[row["ticket_id"]] = row
    known = tickets.known_tickets(tx, account_id, list(newest))
    fresh = {
        ticket_id: row
        for ticket_id, row in newest.items()
        if ticket_id not in known or _version(row) >= _version(known[ticket_id])
    }
    moved = frozenset(ticket_id for ticket_id, row in fresh.items() if _moved(row, known.get(ticket_id)))
    found = _matches(tx, account_id, list(fresh.values()))
    written = {
        ticket_id: _solved(_matched(row, known.get(ticket_id), found[ticket_id]), known.get(ticket_id))
        for ticket_id, row in fresh.items()
    }
    tickets.write_tickets(tx, account_id, written.values())
    tickets.audit_moves(tx, ledger, account_id, written, known)
    return Stored(moved, known, {**known, **written})


def _moved(row: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Whether anything that people see differs: Zendesk's own upkeep raises the version without a change."""
    return before is None or any(before[name] != value for name, value in row.items() if name not in _NOT_STATE)


_NOT_STATE = ("version_epoch", "fetched_epoch", "solved_at")


def _version(row: Mapping[str, Any]) -> tuple[float, float]:
    return row["version_epoch"], row["fetched_epoch"]


def _matched(row: Mapping[str, Any], before: Mapping[str, Any] | None, found: Match) -> dict[str, Any]:
    """The row with its customer. A closed ticket keeps the customer it has."""
    kept = before is not None and before["customer_key"] is not None and row["status"] in ("closed", "deleted")
    if before is not None and kept:
        return {**row, **{name: before[name] for name in matching.MATCH_COLUMNS}}
    return {**row, **_match_columns(found)}


def _solved(row: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The row with when it was solved: as it says, else as was known of it, unless it is open again."""
    if row["solved_at"] is None:
        over = before is not None and row["status"] in ("solved", "closed", _GONE_STATUS)
        row["solved_at"] = before["solved_at"] if before is not None and over else ""
    return row


def _match_columns(found: Match) -> dict[str, Any]:
    owner = found.owner
    return {
        "flow_id": owner.flow_id if owner else None, "customer_key": owner.customer if owner else None,
        "match_reason": found.reason, "match_detail": found.detail,
    }  # fmt: skip


def _matches(tx: Transaction, account_id: int, rows: Sequence[Mapping[str, Any]]) -> dict[int, Match]:
    """The customer of each ticket row by what is linked now."""
    organizations = matching.linked_owners(tx, account_id, "organization", {row["organization_id"] for row in rows})
    requesters = matching.linked_owners(tx, account_id, "user", {row["requester_id"] for row in rows})
    customers = matching.customers_of(tx, requesters)
    found = {}
    for row in rows:
        requester = requesters.get(row["requester_id"])
        found[row["ticket_id"]] = match(
            organizations.get(row["organization_id"]), row["requester_id"], requester is not None,
            customers.get((requester.flow_id, requester.customer), []) if requester else [],
        )  # fmt: skip
    return found


# -- when links appear or move -----------------------------------------------------------------------------------------


def match_again(ledger: Ledger, account_id: int) -> int:
    """Match tickets anew by what is linked now: open ones, and closed ones without a customer. How many moved.

    Nothing is looked at while no organization, user or membership has changed since the last time.
    """
    seen = int(exports.position_of(ledger, account_id, _MATCHED) or 0)
    newest = changes.last_news(ledger, account_id)
    if newest <= seen:
        return 0
    moved, after = 0, -1
    while True:
        with ledger.writing() as tx:
            before, now = matching.moved_matches(tx, account_id, after, _PAGE)
            if not now:
                exports.move(tx, ledger, account_id, _MATCHED, str(newest))
                return moved
            after = max(now)
            tickets.write_tickets(tx, account_id, now.values())
            tickets.audit_moves(tx, ledger, account_id, now, before)
            newly = [row for row in now.values() if row["customer_key"] != before[row["ticket_id"]]["customer_key"]]
            tickets.add_events(tx, ledger, account_id, [tickets.event_of(row, "matched", "link") for row in newly])
            moved += len(newly)
