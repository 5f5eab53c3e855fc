"""From the ledger alone to a plan: stored payloads are mapped, differences decided, changes written down.

No system is called here. A new plan first supersedes whatever an earlier one planned and did not send.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_provider_qadzd.ledger import Ledger, accounts, changes, members, moves
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.store import iso
from airflow_provider_qadzd.records import Candidate, Contact, Customer, Kind, Wanted, digest, fold
from airflow_provider_qadzd.sync.absence import PATIENCE, Patience
from airflow_provider_qadzd.sync.mapping import Rules, organization_of, user_of
from airflow_provider_qadzd.sync.moves import planned_moves
from airflow_provider_qadzd.sync.pairs import REFUSED
from airflow_provider_qadzd.sync.plan import Brake, Change, Settled, decide
from airflow_provider_qadzd.sync.policies import Policies

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
        """One line for the log: what is to be done, and what became of every record without a change."""
        told = f"{self.changes} changes are planned" if self.changes else "Nothing to do, no change is planned"
        parts = [
            f"{kind}: "
            + ", ".join(f"{count} {name}" for name, count in sorted(by.items(), key=_unchanged_first) if count)
            for kind, by in self.counts.items()
            if any(by.values())
        ]
        return f"{told} ({'; '.join(parts)})." if parts else f"{told}."


def _unchanged_first(count: tuple[str, int]) -> tuple[bool, str]:
    return count[0] != "unchanged", count[0]


def map_records(ledger: Ledger, flow: Flow, rules: Rules) -> int:
    """Bring *wanted* up to date with what QAD said. How many records were mapped anew."""
    mapped = 0
    for qad_kind, kind in (("customer", "organization"), ("contact", "user")):
        for page in accounts.records_to_map(ledger, flow, qad_kind, _kind(kind), rules.digest):
            accounts.save_wanted(ledger, flow, ((_wanted(row, qad_kind, rules), row.digest) for row in page))
            mapped += len(page)
    accounts.note_mapping(ledger, flow, rules.digest)
    return mapped


def draft_plan(
    ledger: Ledger, flow: Flow, rules: Rules, run: str, brake: Brake, mode: Mode = "apply",
    patience: Patience = PATIENCE,
) -> Plan:  # fmt: skip
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
        refused = _refused_lately(ledger, flow, kind)
        for batch in _batches(accounts.candidates(ledger, flow, kind)):
            planned += _draft_batch(ledger, flow, plan_id, batch, counts[kind], hashes, run, refused, rules.policies)
    pairs = _missing_pairs(ledger, flow, rules.policies)
    pairs += planned_moves(ledger, flow, rules.policies, patience, run)
    planned += _draft_pairs(ledger, flow, plan_id, pairs, counts, hashes, run)
    for wanted_kind, total in accounts.wanted_count(ledger, flow).items():
        by = counts[wanted_kind]
        by["unchanged"] = total - by.total()
    plan = Plan(plan_id, digest(hashes), {kind: dict(by) for kind, by in counts.items()}, planned)
    changes.end_plan(ledger, plan_id, plan.plan_hash, plan.counts)
    try:
        linked = accounts.linked_count(ledger, flow)
        brake.check("updates", sum(by["updated"] for by in counts.values()), linked)
        brake.check("deactivations", sum(by["deactivated"] for by in counts.values()), linked)
        brake.check("removals", counts["membership"]["removed"], moves.added_count(ledger, flow))
    except Exception:
        changes.supersede_planned(ledger, flow)
        raise
    if mode == "dry_run":
        changes.supersede_planned(ledger, flow)
    return plan


def _draft_batch(
    ledger: Ledger, flow: Flow, plan_id: int, batch: list[Candidate], counts: Counter[str], hashes: list[str], run: str,
    refused: set[changes.Attempt], policies: Policies,
) -> int:  # fmt: skip
    rows, ended, recreated = [], [], []
    for candidate in batch:
        decision = decide(candidate, policies)
        if isinstance(decision, Settled):
            counts[decision.outcome] += 1
            ended.append(settled(candidate, decision))
            continue
        row = _planned(candidate, decision)
        if (row["record_key"], "", row["operation"], row["base"], row["fingerprint"]) in refused:
            counts["set_aside"] += 1
            continue
        counts[decision.outcome] += 1
        if decision.outcome == "recreated":
            recreated.append(candidate.key)
        hashes.append(digest(row["kind"], row["target"], row["operation"], row["base"], row["fingerprint"]))
        rows.append(row)
    if ended or recreated:
        with ledger.writing() as tx:
            changes.settle(tx, ledger, flow, ended, run)
            members.forget_members(tx, flow, batch[0].kind, recreated)
    return changes.add_planned(ledger, flow, plan_id, rows, run)


_REFUSED_FOR = 86_400.0


def _refused_lately(ledger: Ledger, flow: Flow, kind: Kind) -> set[changes.Attempt]:
    """Writes that Zendesk refused within the last day: the same one is not asked for again so soon.

    Nothing tells us when the reason has gone (somebody gives an address up), so each is tried again once a day, and at
    once when what is wanted or what is there has changed.
    """
    since = iso(ledger.clock.time() - _REFUSED_FOR)
    return changes.set_aside_since(ledger, flow, kind, since, reason=REFUSED)


def _missing_pairs(ledger: Ledger, flow: Flow, policies: Policies) -> list[dict[str, Any]]:
    pairs: list[tuple[Kind, str, str]] = [
        ("membership", contact, customer)
        for contact, customer in accounts.missing_memberships(ledger, flow, share=policies.email_shared == "share")
    ]
    missing = accounts.missing_identities(
        ledger, flow, share=policies.email_shared == "share", primary=policies.email_changed == "make_primary"
    )
    pairs += [("identity", contact, fold(email)) for contact, email in missing]
    return [
        {
            "kind": kind, "record_key": key, "other_key": other, "target": digest(flow.flow_id, fold(key), other),
            "operation": "add", "intended": "", "difference": {other: [None, True]},
        }
        for kind, key, other in pairs
    ]  # fmt: skip


_TOLD_AS = {"add": "added", "remove": "removed", "make_default": "made_default"}


def _draft_pairs(
    ledger: Ledger, flow: Flow, plan_id: int, rows: list[dict[str, Any]], counts: dict[str, Counter[str]],
    hashes: list[str], run: str,
) -> int:  # fmt: skip
    refused = {kind: _refused_lately(ledger, flow, kind) for kind in {row["kind"] for row in rows}}
    fresh: dict[str, list[dict[str, Any]]] = {"add": [], "make_default": [], "remove": []}
    for row in rows:
        kind, key, other, operation = row["kind"], row["record_key"], row["other_key"], row["operation"]
        known = (key, other, operation, "", "") in refused[kind]
        counts.setdefault(kind, Counter())["set_aside" if known else _TOLD_AS[operation]] += 1
        if not known:
            hashes.append(digest(kind, key, other, operation))
            fresh[operation].append(row)
    return sum(changes.add_planned(ledger, flow, plan_id, some, run) for some in fresh.values())


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
        wanted = organization_of(Customer(**row.payload), rules, row.absent_at is not None)
    else:
        wanted = user_of(Contact(**row.payload), rules, row.absent_at is not None)
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
