"""What Zendesk has, kept in the ledger by its incremental exports: one or two calls a run once it is complete.

It exists because nothing in Zendesk can be looked up by email in bulk, and a write that matched by email could
overwrite a colleague's account. What we read back after a write goes into it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_qadzd.ledger import Ledger, accounts, exports
from airflow_provider_qadzd.records import Held, Kind, digest, fold
from airflow_provider_qadzd.sync.mapping import DEFAULT, FieldMapping
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import PAGE, ExportPage, flatten

SETTLE = 120.0
"""Seconds before now up to which exports are read: Zendesk withholds the last minute, and refuses to start in it."""

CONFIRM_EVERY = 86_400.0
"""Seconds after which organizations are asked for by id: the export is not known to tell of deleted ones."""

_CONFIRMED, _AFTER = "organizations_confirmed", "after:"
_LEGS: tuple[tuple[str, Kind], ...] = (("mirror_organizations", "organization"), ("mirror_users", "user"))


def refresh_mirror(
    ledger: Ledger, account_id: int, client: ZendeskClient, rows: dict[str, int] | None = None,
    mapping: FieldMapping = DEFAULT,
) -> dict[str, int]:  # fmt: skip
    """Read both exports on from where the last run stopped, and once a day ask for every organization by id.

    How many rows the exports brought, by kind. They are counted in `rows` with each page, so that whoever is stopped in
    between can tell and go on.
    """
    rows = {} if rows is None else rows
    _read_exports(ledger, account_id, client, rows, mapping)
    if ledger.clock.time() - organizations_confirmed_at(ledger, account_id) >= CONFIRM_EVERY:
        confirm_organizations(ledger, account_id, client, mapping)
    return rows


def _read_exports(
    ledger: Ledger, account_id: int, client: ZendeskClient, rows: dict[str, int], mapping: FieldMapping
) -> None:
    for leg, kind in _LEGS:
        rows.setdefault(kind, 0)
        _begin_anew_for_other_fields(ledger, account_id, leg, mapping.compared(kind))
        position = exports.position_of(ledger, account_id, leg) or exports.start_position(0)
        latest = ledger.clock.time() - SETTLE
        begun = False
        # A start in the settle time is moved back to where that begins: reading on from there would be reading again.
        while not (begun and (exports.start_of(position) or 0) > latest):
            begun, page = True, _page(client, kind, position, latest)
            if page.cursor:  # none: a stream begun with a start time had nothing yet
                position = page.cursor if kind == "user" else exports.start_position(float(page.cursor))
            with ledger.writing() as tx:
                accounts.save_mirror(tx, observed(account_id, kind, page.rows, ledger.clock.time(), mapping))
                exports.move(tx, ledger, account_id, leg, position)
            rows[kind] += len(page.rows)
            if page.end_of_stream:
                break


def _begin_anew_for_other_fields(ledger: Ledger, account_id: int, leg: str, names: Sequence[str]) -> None:
    """A mapping that compares other fields than before needs them of every record: the mirror holds no others."""
    read_for = digest(sorted(names))
    if exports.position_of(ledger, account_id, f"{leg}_fields") != read_for:
        with ledger.writing() as tx:
            exports.move(tx, ledger, account_id, leg, exports.start_position(0))
            exports.move(tx, ledger, account_id, f"{leg}_fields", read_for)


def organizations_confirmed_at(ledger: Ledger, account_id: int) -> float:
    """When every organization was last asked for by id (Unix seconds); 0 for never, and while that is under way."""
    return exports.start_of(exports.position_of(ledger, account_id, _CONFIRMED) or "") or 0


def confirm_organizations(ledger: Ledger, account_id: int, client: ZendeskClient, mapping: FieldMapping) -> None:
    """Ask for every organization by id, on from where that was stopped: one that Zendesk leaves out was deleted.

    Also for those that are not linked: one that is gone holds no name any more.
    """
    position = exports.position_of(ledger, account_id, _CONFIRMED) or ""
    after = int(position.removeprefix(_AFTER)) if position.startswith(_AFTER) else 0
    while ids := accounts.mirrored_ids(ledger, account_id, "organization", after, PAGE):
        observe(ledger, account_id, "organization", client.organizations.show_many(ids=ids), mapping, ids)
        after = ids[-1]
        with ledger.writing() as tx:
            exports.move(tx, ledger, account_id, _CONFIRMED, f"{_AFTER}{after}")
    with ledger.writing() as tx:
        exports.move(tx, ledger, account_id, _CONFIRMED, exports.start_position(ledger.clock.time()))


def observe(
    ledger: Ledger, account_id: int, kind: Kind, rows: Sequence[Mapping[str, Any]], mapping: FieldMapping,
    asked: Iterable[int] = (),
) -> None:  # fmt: skip
    """Into the mirror with what Zendesk answered just now; ids that it was `asked` for and left out are gone."""
    with ledger.writing() as tx:
        accounts.save_mirror(tx, observed(account_id, kind, rows, ledger.clock.time(), mapping))
        accounts.mark_gone(tx, account_id, kind, set(asked) - {int(row["id"]) for row in rows})


def _page(client: ZendeskClient, kind: Kind, position: str, latest_start: float) -> ExportPage:
    start = exports.start_of(position)
    if start is None:
        return client.exports.users(cursor=position)
    begin = min(float(start), latest_start)
    return client.exports.users(start_time=begin) if kind == "user" else client.exports.organizations(begin)


def observed(
    account_id: int, kind: Kind, rows: Iterable[Mapping[str, Any]], now: float, mapping: FieldMapping
) -> list[dict[str, Any]]:
    """Records as Zendesk sent them, as rows of the mirror. The digest covers the mapped fields, role and activity."""
    names = mapping.compared(kind)
    return [_row(account_id, kind, row, now, names) for row in rows]


def held(kind: Kind, row: Mapping[str, Any], mapping: FieldMapping) -> Held:
    """A record as Zendesk sent it, as decisions see it; whom it is linked to is not known here."""
    seen = _row(0, kind, row, 0.0, mapping.compared(kind))
    return Held(
        seen["zendesk_id"], seen["fields"], seen["digest"], seen["active"], seen["external_folded"],
        seen["email_folded"], seen["user_role"], seen["organization_id"],
    )  # fmt: skip


def _row(
    account_id: int, kind: Kind, row: Mapping[str, Any], now: float, names: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    fields = flatten(row, names)
    role = str(row.get("role") or "")
    active = bool(row.get("active", True)) and not row.get("deleted_at")
    return {
        "account_id": account_id, "kind": kind, "zendesk_id": int(row["id"]),
        "external_folded": fold(row.get("external_id") or ""), "name_folded": fold(row.get("name") or ""),
        "email_folded": fold(row.get("email") or ""), "user_role": role, "active": active,
        "suspended": bool(row.get("suspended")), "organization_id": row.get("organization_id"), "fields": fields,
        "digest": digest(fields, role, active), "updated_at": row.get("updated_at") or "", "observed_epoch": now,
    }  # fmt: skip
