"""From the ledger alone to a plan: stored payloads are mapped, differences decided, changes written down.

No system is called here. A new plan first supersedes whatever an earlier one planned and did not send.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from airflow_provider_qadzd.errors import QadzdError
from airflow_provider_qadzd.ledger import Ledger, accounts, changes, members, plans
from airflow_provider_qadzd.ledger.budget import limit_of
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.store import iso
from airflow_provider_qadzd.records import Candidate, Contact, Customer, Kind, Wanted, digest, fold
from airflow_provider_qadzd.sync.estimate import Estimate, estimate
from airflow_provider_qadzd.sync.mapping import Rules, organization_of, user_of
from airflow_provider_qadzd.sync.pairs import REFUSED
from airflow_provider_qadzd.sync.plan import Brake, Change, Settled, decide

Mode = Literal["apply", "dry_run", "approve"]
_BATCH = 500
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do: counts by kind and decision, a hash over the changes, and what sending them will cost."""

    plan_id: int
    plan_hash: str
    counts: dict[str, dict[str, int]]
    changes: int
    estimate: Estimate | None = None

    def summary(self) -> str:
        """One line for the log: what is to be done, and what became of every record without a change."""
        told = f"{self.changes} changes are planned" if self.changes else "Nothing to do, no change is planned"
        parts = [
            f"{kind}: "
            + ", ".join(f"{count} {name}" for name, count in sorted(by.items(), key=_unchanged_first) if count)
            for kind, by in self.counts.items()
            if any(by.values())
        ]
        cost = f" It takes {self.estimate.summary()}." if self.changes and self.estimate else ""
        return f"{told} ({'; '.join(parts)}).{cost}" if parts else f"{told}.{cost}"


@dataclass
class Asides:
    """Why records are set aside, by kind and the first word of the reason: how many, and a few of them.

    Keys and reasons only, never what a record holds, so that a forgotten person is in no plan.
    """

    grouped: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def note(self, kind: str, key: str, reason: str) -> None:
        """One more record."""
        group = self.grouped.setdefault(kind, {}).setdefault(reason.split(" ")[0], {"count": 0, "examples": []})
        group["count"] += 1
        if len(group["examples"]) < _EXAMPLES:
            group["examples"].append([key, reason])


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
    ledger: Ledger, flow: Flow, rules: Rules, run: str, brake: Brake, mode: Mode = "apply", bulk: bool | None = None
) -> Plan:
    """A new plan of the flow. UnsafePlan, with nothing left planned, if it does more than the brake allows.

    In `apply` its changes may be sent from now on. In `approve` they wait for a review; a plan that would do exactly
    what one that waits already would, is that one. In `dry_run` the plan is counted and hashed and its changes are
    superseded at once, so that nothing sends them. `bulk` says whether Zendesk creates users in bulk, for the estimate.
    """
    map_records(ledger, flow, rules)
    earlier = plans.waiting(ledger, flow) if mode == "approve" else None
    changes.supersede_planned(ledger, flow)
    plan_id = changes.new_plan(ledger, flow, run, mode)
    asides = Asides()
    counts: dict[str, Counter[str]] = {"organization": Counter(), "user": Counter(), "membership": Counter()}
    hashes: list[str] = []
    planned = 0
    for kind in (_kind("organization"), _kind("user")):
        refused = _refused_lately(ledger, flow, kind)
        for batch in _batches(accounts.candidates(ledger, flow, kind)):
            planned += _draft_batch(ledger, flow, plan_id, batch, counts[kind], hashes, run, refused, asides)
    planned += _draft_pairs(ledger, flow, plan_id, counts, hashes, run, asides)
    for wanted_kind, total in accounts.wanted_count(ledger, flow).items():
        by = counts[wanted_kind]
        by["unchanged"] += total - by.total()
    cost = _cost(ledger, flow, plan_id, bulk)
    plan = Plan(plan_id, digest(hashes), {kind: dict(by) for kind, by in counts.items()}, planned, cost)
    told = {"change_count": planned, "asides": asides.grouped, "estimate": asdict(cost)}
    changes.end_plan(ledger, plan_id, plan.plan_hash, plan.counts)
    try:
        linked = accounts.linked_count(ledger, flow)
        brake.check("updates", sum(by["updated"] + by["recreated"] for by in counts.values()), linked)
    except Exception as error:
        changes.supersede_planned(ledger, flow)
        plans.finish(ledger, plan_id, "stopped", stopped=error.what if isinstance(error, QadzdError) else "", **told)
        raise
    if mode == "dry_run":
        changes.supersede_planned(ledger, flow)
        plans.finish(ledger, plan_id, "shown", **told)
    elif mode == "approve":
        plans.finish(ledger, plan_id, "waiting" if planned else "applied", **told)
        if earlier is not None and planned and earlier.plan_hash == plan.plan_hash:
            plans.keep_earlier(ledger, earlier.plan_id, plan_id)
            return replace(plan, plan_id=earlier.plan_id)
    else:
        plans.finish(ledger, plan_id, "drafting", **told)
        plans.release(ledger, plan_id, run, ["drafting"])
    return plan


def _cost(ledger: Ledger, flow: Flow, plan_id: int, bulk: bool | None) -> Estimate:
    tally = plans.tally(ledger, plan_id)
    return estimate(tally, plans.with_their_user(ledger, plan_id), bulk, limit_of(ledger, flow.account_id))


def _draft_batch(
    ledger: Ledger, flow: Flow, plan_id: int, batch: list[Candidate], counts: Counter[str], hashes: list[str], run: str,
    refused: set[changes.Attempt], asides: Asides,
) -> int:  # fmt: skip
    rows, ended, recreated = [], [], []
    for candidate in batch:
        decision = decide(candidate)
        if isinstance(decision, Settled):
            counts[decision.outcome] += 1
            ended.append(settled(candidate, decision))
            if decision.outcome == "set_aside":
                asides.note(candidate.kind, candidate.key, decision.detail)
            continue
        row = _planned(candidate, decision)
        if (row["record_key"], "", row["operation"], row["base"], row["fingerprint"]) in refused:
            counts["set_aside"] += 1
            asides.note(candidate.kind, candidate.key, REFUSED)
            continue
        counts[decision.outcome] += 1
        if decision.outcome == "recreated":
            recreated.append(candidate.key)
        hashes.append(digest(row["kind"], row["target"], row["operation"], row["base"], row["fingerprint"]))
        rows.append(row)
    if ended or recreated:
        with ledger.writing() as tx:
            changes.settle(tx, ledger, flow, ended, run)
            members.forget_members(tx, flow, recreated)
    return changes.add_planned(ledger, flow, plan_id, rows, run)


_REFUSED_FOR = 86_400.0


def _refused_lately(ledger: Ledger, flow: Flow, kind: Kind) -> set[changes.Attempt]:
    """Writes that Zendesk refused within the last day: the same one is not asked for again so soon.

    Nothing tells us when the reason has gone (somebody gives an address up), so each is tried again once a day, and at
    once when what is wanted or what is there has changed.
    """
    since = iso(ledger.clock.time() - _REFUSED_FOR)
    return changes.set_aside_since(ledger, flow, kind, since, reason=REFUSED)


def pairs_to_add(ledger: Ledger, flow: Flow) -> list[tuple[Kind, str, str]]:
    """Kind, contact, and customer or email of every membership and identity that is missing now."""
    pairs: list[tuple[Kind, str, str]] = [
        ("membership", contact, customer) for contact, customer in accounts.missing_memberships(ledger, flow)
    ]
    return pairs + [("identity", contact, fold(email)) for contact, email in accounts.missing_identities(ledger, flow)]


def _draft_pairs(
    ledger: Ledger, flow: Flow, plan_id: int, counts: dict[str, Counter[str]], hashes: list[str], run: str,
    asides: Asides,
) -> int:  # fmt: skip
    pairs = pairs_to_add(ledger, flow)
    rows: list[dict[str, Any]] = [
        {
            "kind": kind, "record_key": key, "other_key": other, "target": digest(flow.flow_id, fold(key), other),
            "operation": "add", "intended": "", "difference": {other: [None, True]},
        }
        for kind, key, other in pairs
    ]  # fmt: skip
    refused = {kind: _refused_lately(ledger, flow, kind) for kind in {kind for kind, _, _ in pairs}}
    fresh = []
    for row in rows:
        kind, key, other = row["kind"], row["record_key"], row["other_key"]
        known = (key, other, "add", "", "") in refused[kind]
        counts.setdefault(kind, Counter())["set_aside" if known else "added"] += 1
        if known:
            asides.note(kind, key, REFUSED)
        else:
            hashes.append(digest(kind, key, other, "add"))
            fresh.append(row)
    return changes.add_planned(ledger, flow, plan_id, fresh, run)


def settled(candidate: Candidate, decision: Settled, change_id: int | None = None) -> changes.Ended:
    """A decision without a call, as the outcome to write down."""
    return changes.Ended(
        candidate.kind, candidate.key, decision.outcome, decision.detail, change_id=change_id,
        linked=decision.zendesk_id is not None, zendesk_id=decision.zendesk_id, base=decision.base,
        fingerprint=candidate.fingerprint, remember=decision.remember,
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
