"""From the ledger alone to a plan: stored payloads are mapped, differences decided, changes written down.

No system is called here. A new plan first supersedes whatever an earlier one planned and did not send.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_provider_qadzd.ledger import Ledger, accounts, changes
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.records import Candidate, Contact, Customer, Kind, Wanted, digest, fold
from airflow_provider_qadzd.sync.mapping import Rules, organization_of, user_of
from airflow_provider_qadzd.sync.plan import Brake, Change, Settled, decide

Mode = Literal["apply", "dry_run"]
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do: counts by kind and decision, a hash over the changes, and how many Zendesk calls at least."""

    plan_id: int
    plan_hash: str
    counts: dict[str, dict[str, int]]
    changes: int

    def summary(self) -> str:
        """One line for the log."""
        if not self.changes:
            kept = sum(by.get("unchanged", 0) for by in self.counts.values())
            return f"Nothing to do: {kept} records are as they should be, no change is planned."
        parts = [
            f"{kind}: " + ", ".join(f"{count} {name}" for name, count in sorted(by.items()))
            for kind, by in self.counts.items()
        ]
        return f"{self.changes} changes planned ({'; '.join(parts)})."


def map_records(ledger: Ledger, flow: Flow, rules: Rules) -> int:
    """Bring *wanted* up to date with what QAD said. How many records were mapped anew."""
    mapped = 0
    for qad_kind, kind in (("customer", "organization"), ("contact", "user")):
        for page in accounts.records_to_map(ledger, flow, qad_kind, _kind(kind), rules.digest):
            accounts.save_wanted(ledger, flow, ((_wanted(row, qad_kind, rules), row.digest) for row in page))
            mapped += len(page)
    accounts.note_mapping(ledger, flow, rules.digest)
    return mapped


def draft_plan(ledger: Ledger, flow: Flow, rules: Rules, run: str, brake: Brake, mode: Mode = "apply") -> Plan:
    """A new plan of the flow. UnsafePlan, with nothing left planned, if it does more than the brake allows.

    In `dry_run` the plan is counted and hashed and its changes are superseded at once, so that nothing sends them.
    """
    map_records(ledger, flow, rules)
    changes.supersede_planned(ledger, flow)
    plan_id = changes.new_plan(ledger, flow, run)
    counts: dict[str, Counter[str]] = {"organization": Counter(), "user": Counter(), "membership": Counter()}
    hashes: list[str] = []
    planned = 0
    for kind in (_kind("organization"), _kind("user")):
        for batch in _batches(accounts.candidates(ledger, flow, kind)):
            planned += _draft_batch(ledger, flow, plan_id, batch, counts[kind], hashes, run)
    planned += _draft_pairs(ledger, flow, plan_id, counts, hashes, run)
    for kind, total in accounts.wanted_count(ledger, flow).items():
        counts[kind]["unchanged"] = total - sum(n for name, n in counts[kind].items() if name != "unchanged")
    plan = Plan(plan_id, digest(hashes), {kind: dict(by) for kind, by in counts.items()}, planned)
    changes.end_plan(ledger, plan_id, plan.plan_hash, plan.counts)
    try:
        linked = accounts.linked_count(ledger, flow)
        brake.check("updates", sum(by["updated"] for by in counts.values()), linked)
    except Exception:
        changes.supersede_planned(ledger, flow)
        raise
    if mode == "dry_run":
        changes.supersede_planned(ledger, flow)
    return plan


def _draft_batch(
    ledger: Ledger, flow: Flow, plan_id: int, batch: list[Candidate], counts: Counter[str], hashes: list[str], run: str
) -> int:
    rows, ended = [], []
    for candidate in batch:
        decision = decide(candidate)
        counts[decision.outcome] += 1
        if isinstance(decision, Settled):
            ended.append(settled(candidate, decision))
            continue
        row = _planned(candidate, decision)
        hashes.append(digest(row["kind"], row["target"], row["operation"], row["base"], row["fingerprint"]))
        rows.append(row)
    if ended:
        with ledger.writing() as tx:
            changes.settle(tx, ledger, flow, ended, run)
    return changes.add_planned(ledger, flow, plan_id, rows, run)


def _draft_pairs(
    ledger: Ledger, flow: Flow, plan_id: int, counts: dict[str, Counter[str]], hashes: list[str], run: str
) -> int:  # fmt: skip
    pairs: list[tuple[Kind, str, str]] = [
        ("membership", contact, customer) for contact, customer in accounts.missing_memberships(ledger, flow)
    ]
    pairs += [("identity", contact, fold(email)) for contact, email in accounts.missing_identities(ledger, flow)]
    rows = [
        {
            "kind": kind, "record_key": key, "other_key": other, "target": digest(fold(key), other),
            "operation": "add", "intended": "", "difference": {other: [None, True]},
        }
        for kind, key, other in pairs
    ]  # fmt: skip
    for kind, key, other in pairs:
        counts.setdefault(kind, Counter())["added"] += 1
        hashes.append(digest(kind, key, other, "add"))
    return changes.add_planned(ledger, flow, plan_id, rows, run)


def settled(candidate: Candidate, decision: Settled, change_id: int | None = None) -> changes.Ended:
    """A decision without a call, as the outcome to write down."""
    return changes.Ended(
        candidate.kind, candidate.key, decision.outcome, decision.detail, change_id=change_id,
        linked=decision.zendesk_id is not None, zendesk_id=decision.zendesk_id, base=decision.base,
        fingerprint=candidate.fingerprint,
    )  # fmt: skip


def _planned(candidate: Candidate, change: Change) -> dict[str, Any]:
    return {
        "kind": candidate.kind, "record_key": candidate.key, "target": fold(candidate.external_id),
        "operation": change.operation, "intended": change.outcome, "zendesk_id": change.zendesk_id,
        "base": change.base, "fingerprint": candidate.fingerprint,
        "difference": {name: list(values) for name, values in change.difference.items()},
    }  # fmt: skip


def _wanted(row: Any, qad_kind: str, rules: Rules) -> Wanted:
    if qad_kind == "customer":
        wanted = organization_of(Customer(**row.payload), rules)
    else:
        wanted = user_of(Contact(**row.payload), rules)
    return replace(wanted, aside="two_different_records_with_this_key") if row.conflict else wanted


def _batches(items: Iterator[Candidate]) -> Iterator[list[Candidate]]:
    batch: list[Candidate] = []
    for item in items:
        batch.append(item)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _kind(kind: str) -> Kind:
    return "organization" if kind == "organization" else "user"
