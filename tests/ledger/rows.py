"""Rows to put into a ledger, short to write: one line says what differs from an ordinary record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from airflow_provider_qadzd.ledger import Ledger, accounts, changes, identity, plans
from airflow_provider_qadzd.ledger.changes import Ended
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.records import Candidate, Kind, Wanted, fold

QAD = "https://qad.example.com/clouderp"
ZENDESK = "https://acme.zendesk.com"


def a_flow(ledger: Ledger, name: str = "default", *, qad: str = QAD, zendesk: str = ZENDESK, part: str = "") -> Flow:
    """A flow from one QAD to one Zendesk; `part` sets its external ids apart."""
    return identity.flow_named(
        ledger, name, identity.source_id_of(ledger, qad, ("10USA",)),
        identity.account_at(ledger, zendesk).account_id, f"{part}{{code}}", f"{part}{{contact}}",
    )  # fmt: skip


def a_wanted(key: str, kind: Kind = "organization", **more: Any) -> Wanted:
    """A record as it should be; its external id is its key, its name tells its key."""
    name, email = more.pop("name", f"Name of {key}"), more.pop("email", "")
    body = {"name": name, **({"email": email or None} if kind == "user" else {}), **more.pop("body", {})}
    return Wanted(kind, key, more.pop("external_id", key), body, name, email, **more)


def want(ledger: Ledger, flow: Flow, *rows: Wanted) -> None:
    """Store these as wanted."""
    accounts.save_wanted(ledger, flow, [(row, "payload") for row in rows])


def a_record(zendesk_id: int, account_id: int, kind: Kind = "organization", **more: Any) -> dict[str, Any]:
    """A row of the mirror: active, nobody's, an end user if it is a user."""
    row: dict[str, Any] = {
        "account_id": account_id, "kind": kind, "zendesk_id": zendesk_id, "external_folded": "",
        "name_folded": f"record {zendesk_id}", "email_folded": "", "user_role": "end-user" if kind == "user" else "",
        "active": True, "suspended": False, "organization_id": None, "fields": {}, "digest": "there",
        "updated_at": "2026-01-01T00:00:00Z", "observed_epoch": 100.0,
    }  # fmt: skip
    return {**row, **more}


def observe(ledger: Ledger, *rows: dict[str, Any]) -> None:
    """Store these as what Zendesk has."""
    with ledger.writing() as tx:
        accounts.save_mirror(tx, rows)


def settle(ledger: Ledger, flow: Flow, *ended: Ended, run: str = "run") -> None:
    """Write these outcomes."""
    with ledger.writing() as tx:
        changes.settle(tx, ledger, flow, ended, run)


def an_end(kind: Kind, key: str, zendesk_id: int | None, outcome: str = "created", **more: Any) -> Ended:
    """An outcome that links a key to a record as it is in the mirror."""
    return Ended(kind, key, outcome, linked=True, zendesk_id=zendesk_id, **{"base": "there", **more})


def in_step(ledger: Ledger, flow: Flow, zendesk_id: int, row: Wanted, **record: Any) -> None:
    """A record that is wanted, linked and in the mirror, with nothing left to do."""
    want(ledger, flow, row)
    more = {"external_folded": fold(row.external_id), "name_folded": fold(row.name), "email_folded": fold(row.email)}
    observe(ledger, a_record(zendesk_id, flow.account_id, row.kind, **{**more, **record}))
    settle(ledger, flow, an_end(row.kind, row.key, zendesk_id, fingerprint=row.fingerprint))


def a_change(key: str, kind: Kind = "organization", **more: Any) -> dict[str, Any]:
    """A change to plan: a create, unless said otherwise."""
    row = {
        "kind": kind, "record_key": key, "target": fold(key), "operation": "create", "intended": "created",
        "difference": {},
    }  # fmt: skip
    return {**row, **more}


def plan_changes(ledger: Ledger, flow: Flow, *rows: dict[str, Any]) -> int:
    """Plan these in a new plan that may be sent; how many were added."""
    plan_id = changes.begin_plan(ledger, flow, "run")
    added = changes.add_planned(ledger, flow, plan_id, rows, "run")
    plans.release(ledger, plan_id, "run", ["drafting"])
    return added


def found(
    ledger: Ledger, flow: Flow, kind: Kind = "organization", keys: Sequence[str] | None = None
) -> list[Candidate]:
    """The candidates, all at once."""
    return list(accounts.candidates(ledger, flow, kind, keys))


def one(ledger: Ledger, flow: Flow, key: str, kind: Kind = "organization") -> Candidate:
    """The candidate of that key, whether or not it needs a decision."""
    (candidate,) = found(ledger, flow, kind, [key])
    return candidate


def as_kind(kind: str) -> Kind:
    """A kind from a table of test cases."""
    return cast(Kind, kind)
