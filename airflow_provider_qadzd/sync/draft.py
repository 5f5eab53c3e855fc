"""From the ledger alone to a plan: stored payloads are mapped, differences decided, changes written down.

No system is called here. A new plan first supersedes whatever an earlier one planned and did not send.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from airflow_provider_qadzd.errors import QadzdError
from airflow_provider_qadzd.ledger import Ledger, accounts, changes, members, moves, plans
from airflow_provider_qadzd.ledger.budget import limit_of
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.store import batches, iso
from airflow_provider_qadzd.records import Candidate, Contact, Customer, Kind, Wanted, digest, fold
from airflow_provider_qadzd.sync.absence import PATIENCE, Patience
from airflow_provider_qadzd.sync.estimate import Estimate, estimate
from airflow_provider_qadzd.sync.mapping import Rules, organization_of, user_of
from airflow_provider_qadzd.sync.moves import planned_moves
from airflow_provider_qadzd.sync.pairs import REFUSED
from airflow_provider_qadzd.sync.plan import Brake, Change, Settled, decide
from airflow_provider_qadzd.sync.policies import Policies

Mode = Literal["apply", "dry_run", "approve"]
_BATCH = 500
_EXAMPLES = 5
_RECORDS: tuple[tuple[str, Kind], ...] = (("customer", "organization"), ("contact", "user"))
"""What QAD calls a record, and what Zendesk does, in the order in which they are made."""
_REFUSED_FOR = 86_400.0
_TOLD_AS = {"add": "added", "remove": "removed", "make_default": "made_default"}
_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do: counts by kind and decision, a hash over the changes, and what sending them will cost.

    `superseded`: another run has begun to plan meanwhile; what is to be done stands in that plan, and nothing in this.
    """

    plan_id: int
    plan_hash: str
    counts: dict[str, dict[str, int]]
    changes: int
    estimate: Estimate
    superseded: bool = False

    def summary(self) -> str:
        """One line for the log: what is to be done, and what became of every record without a change."""
        if self.superseded:
            return "Another run has begun to plan this flow meanwhile: what is to be done stands in its plan."
        told = f"{self.changes} changes are planned" if self.changes else "Nothing to do, no change is planned"
        parts = [
            f"{kind}: "
            + ", ".join(f"{count} {name}" for name, count in sorted(by.items(), key=_unchanged_first) if count)
            for kind, by in self.counts.items()
            if any(by.values())
        ]
        cost = f" It takes {self.estimate.summary()}." if self.changes else ""
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
    accounts.take_stock(ledger)
    for qad_kind, kind in _RECORDS:
        for page in accounts.records_to_map(ledger, flow, qad_kind, kind, rules.digest):
            accounts.save_wanted(ledger, flow, ((_wanted(row, qad_kind, rules), row.digest) for row in page))
            mapped += len(page)
    accounts.note_mapping(ledger, flow, rules.digest)
    if mapped:
        accounts.take_stock(ledger)
    return mapped


def draft_plan(
    ledger: Ledger, flow: Flow, rules: Rules, run: str, brake: Brake, mode: Mode = "apply", bulk: bool | None = None,
    patience: Patience = PATIENCE,
) -> Plan:  # fmt: skip
    """A new plan of the flow. UnsafePlan, with nothing left planned, if it does more than the brake allows.

    In `apply` its changes may be sent from now on. In `approve` they wait for a review; a plan that would do exactly
    what one that waits already would, is that one. In `dry_run` the plan is counted and hashed and its changes are
    superseded at once, so that nothing sends them. `bulk` says whether Zendesk creates users in bulk, for the estimate.

    Where several runs plan at once, the plan of the one that began last is made, and the others are superseded.
    """
    map_records(ledger, flow, rules)
    earlier = plans.waiting(ledger, flow) if mode == "approve" else None
    draft = _Draft(ledger, flow, rules.policies, run, changes.begin_plan(ledger, flow, run, mode))
    try:
        plan = draft.whole(patience, bulk)
    except changes.Superseded:
        return draft.superseded()
    told = {"change_count": plan.changes, "asides": draft.asides.grouped, "estimate": asdict(plan.estimate)}
    changes.end_plan(ledger, plan.plan_id, plan.plan_hash, plan.counts)
    try:
        draft.check(brake)
    except Exception as error:
        changes.drop_draft(ledger, plan.plan_id)
        plans.finish(
            ledger, plan.plan_id, "stopped", stopped=error.what if isinstance(error, QadzdError) else "", **told
        )  # fmt: skip
        raise
    state: plans.PlanState = "drafting"
    if mode == "dry_run":
        changes.drop_draft(ledger, plan.plan_id)
        state = "shown"
    elif mode == "approve":
        state = "waiting" if plan.changes else "applied"
    if not plans.finish(ledger, plan.plan_id, state, **told):
        return draft.superseded()
    if mode == "approve" and earlier is not None and plan.changes and earlier.plan_hash == plan.plan_hash:
        plans.keep_earlier(ledger, earlier.plan_id, plan.plan_id)
        return replace(plan, plan_id=earlier.plan_id)
    if mode == "apply" and not plans.release(ledger, plan.plan_id, run, ["drafting"]):
        return draft.superseded()
    return plan


def pair_changes(ledger: Ledger, flow: Flow, policies: Policies, patience: Patience, run: str) -> Iterator[_Row]:
    """Every membership and identity that is to be added, made the default or removed now, as rows of a plan."""
    share = policies.email_shared == "share"
    for contact, customer in accounts.missing_memberships(ledger, flow, share=share):
        yield _addition(flow, "membership", contact, customer)
    primary = policies.email_changed == "make_primary"
    for contact, email in accounts.missing_identities(ledger, flow, share=share, primary=primary):
        yield _addition(flow, "identity", contact, fold(email))
    yield from planned_moves(ledger, flow, policies, patience, run)


def _addition(flow: Flow, kind: Kind, key: str, other: str) -> _Row:
    return {
        "kind": kind, "record_key": key, "other_key": other, "target": digest(flow.flow_id, fold(key), other),
        "operation": "add", "intended": "", "difference": {other: [None, True]},
    }  # fmt: skip


@dataclass
class _Draft:
    """A plan in the making: what is written down already, and what is counted over it."""

    ledger: Ledger
    flow: Flow
    policies: Policies
    run: str
    plan_id: int
    count: int = 0
    asides: Asides = field(default_factory=Asides)
    hashed: Any = field(default_factory=hashlib.sha256)
    refused: dict[Kind, set[changes.Attempt]] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {"organization": Counter(), "user": Counter(), "membership": Counter()}
    )

    def whole(self, patience: Patience, bulk: bool | None) -> Plan:
        """Everything drafted, as the plan to tell of."""
        for _, kind in _RECORDS:
            for batch in batches(accounts.candidates(self.ledger, self.flow, kind), _BATCH):
                self._add_records(batch)
        for rows in batches(pair_changes(self.ledger, self.flow, self.policies, patience, self.run), _BATCH):
            self._add_pairs(rows)
        for of_kind, total in accounts.wanted_count(self.ledger, self.flow).items():
            self.counts[of_kind]["unchanged"] += total - self.counts[of_kind].total()
        counts = {kind: dict(by) for kind, by in self.counts.items()}
        return Plan(self.plan_id, self.hashed.hexdigest(), counts, self.count, self._cost(bulk))

    def superseded(self) -> Plan:
        """The plan that it comes to where another run has begun to plan."""
        return Plan(self.plan_id, "", {}, 0, self._cost(None), superseded=True)

    def _cost(self, bulk: bool | None) -> Estimate:
        tally, with_user = plans.tally(self.ledger, self.plan_id), plans.with_their_user(self.ledger, self.plan_id)
        return estimate(tally, with_user, bulk, limit_of(self.ledger, self.flow.account_id))

    def check(self, brake: Brake) -> None:
        """UnsafePlan if it does more than the brake allows."""
        linked = accounts.linked_count(self.ledger, self.flow)
        brake.check("updates", sum(by["updated"] + by["recreated"] for by in self.counts.values()), linked)
        brake.check("deactivations", sum(by["deactivated"] for by in self.counts.values()), linked)
        removed = self.counts["membership"]["removed"]
        brake.check("removals", removed, moves.added_count(self.ledger, self.flow) if removed else 0)

    def _add_records(self, batch: Sequence[Candidate]) -> None:
        kind, by = batch[0].kind, self.counts[batch[0].kind]
        rows, ended, recreated = [], [], []
        for candidate in batch:
            decision = decide(candidate, self.policies)
            if isinstance(decision, Settled):
                by[decision.outcome] += 1
                ended.append(settled(candidate, decision))
                if decision.outcome == "set_aside":
                    self.asides.note(kind, candidate.key, decision.detail)
                continue
            row = _planned(candidate, decision)
            if (row["record_key"], "", row["operation"], row["base"], row["fingerprint"]) in self._refused_lately(kind):
                by["set_aside"] += 1
                self.asides.note(kind, candidate.key, REFUSED)
                continue
            by[decision.outcome] += 1
            if decision.outcome == "recreated":
                recreated.append(candidate.key)
            self._hash(kind, row["target"], row["operation"], row["base"], row["fingerprint"])
            rows.append(row)
        if ended or recreated:
            with self.ledger.writing() as tx:
                changes.settle(tx, self.ledger, self.flow, ended, self.run)
                members.forget_members(tx, self.flow, kind, recreated)
        self._add(rows)

    def _add_pairs(self, rows: Sequence[_Row]) -> None:
        """Additions, new defaults and removals, each operation's in one go: their rows differ in form."""
        fresh: dict[str, list[_Row]] = {}
        for row in rows:
            kind, key, other, operation = row["kind"], row["record_key"], row["other_key"], row["operation"]
            known = (key, other, operation, "", "") in self._refused_lately(kind)
            self.counts.setdefault(kind, Counter())["set_aside" if known else _TOLD_AS[operation]] += 1
            if known:
                self.asides.note(kind, key, REFUSED)
            else:
                self._hash(kind, key, other, operation)
                fresh.setdefault(operation, []).append(row)
        for some in fresh.values():
            self._add(some)

    def _add(self, rows: Sequence[_Row]) -> None:
        self.count += changes.add_planned(self.ledger, self.flow, self.plan_id, rows, self.run)

    def _refused_lately(self, kind: Kind) -> set[changes.Attempt]:
        """Writes that Zendesk refused within the last day: the same one is not asked for again so soon.

        Nothing tells us when the reason has gone (somebody gives an address up), so each is tried again once a day, and
        at once when what is wanted or what is there has changed.
        """
        if kind not in self.refused:
            since = iso(self.ledger.clock.time() - _REFUSED_FOR)
            self.refused[kind] = changes.set_aside_since(self.ledger, self.flow, kind, since, reason=REFUSED)
        return self.refused[kind]

    def _hash(self, *parts: str) -> None:
        self.hashed.update(digest(*parts).encode())


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
        wanted = organization_of(Customer(**row.payload), rules, row.absent_at is not None)
    else:
        wanted = user_of(Contact(**row.payload), rules, row.absent_at is not None)
    return replace(wanted, aside="two_different_records_with_this_key") if row.conflict else wanted
