"""Applying a plan that somebody has reviewed: every change is decided again first, and compared with what was shown.

Nothing is sent here. What still stands is released to `apply`, which decides each change once more as it sends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_qadzd.errors import FixFirst, UnsafePlan
from airflow_provider_qadzd.ledger import Ledger, accounts, plans
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.records import Candidate
from airflow_provider_qadzd.sync.absence import PATIENCE, Patience
from airflow_provider_qadzd.sync.draft import map_records, pair_changes
from airflow_provider_qadzd.sync.mapping import Rules
from airflow_provider_qadzd.sync.plan import Settled, decide
from airflow_provider_qadzd.sync.policies import Policies

_PAGE = 1000
_NAMED = 5
_PAIR = ("kind", "record_key", "other_key", "operation")


@dataclass(frozen=True, slots=True)
class Moved:
    """A change that would not be made any more as it was shown, and why."""

    change_id: int
    kind: str
    key: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind} {self.key} ({self.why})"


@dataclass(frozen=True, slots=True)
class Released:
    """A reviewed plan on its way: how many changes it has, and those that are left out because they moved."""

    plan_id: int
    changes: int
    moved: tuple[Moved, ...] = ()

    def summary(self) -> str:
        """One line for the log."""
        left_out = f" {len(self.moved)} that moved are left out: {_named(self.moved)}." if self.moved else ""
        return f"Plan {self.plan_id} as reviewed: {self.changes - len(self.moved)} changes are applied.{left_out}"


def release_reviewed(
    ledger: Ledger, flow: Flow, rules: Rules, plan_id: int, run: str, patience: Patience = PATIENCE, *,
    skip_moved: bool = False,
) -> Released:  # fmt: skip
    """Let a reviewed plan be sent, if every change is still what was shown; with `skip_moved`, those that are.

    QAD and the mirror should just have been read. FixFirst, in words, for a plan that is over, superseded or another
    flow's; UnsafePlan, naming what moved, and the plan waits on. The same run may ask again after it was let go.
    """
    row = plans.plan_at(ledger, plan_id)
    if row.flow_id != flow.flow_id:
        raise FixFirst(
            f"Plan {plan_id} is of flow {row.flow_name!r}, not of {flow.name!r}.", advice="Run that flow's DAG."
        )
    if row.plan_state in ("going", "applied") and row.released_by == run:
        return Released(plan_id, row.change_count)
    if row.plan_state not in ("waiting", "approved"):
        raise plans.refusal(ledger, row)
    map_records(ledger, flow, rules)
    moved = tuple(_moved(ledger, flow, rules, plan_id, patience, run))
    if moved and not skip_moved:
        plans.hold_again(ledger, plan_id)
        raise UnsafePlan(
            f"Plan {plan_id} is not what it was: of its {row.change_count} changes {len(moved)} moved since it was "
            f"made: {_named(moved)}. Nothing is sent.",
            advice="Review the next plan, or apply the rest of this one with skip_moved (--skip-moved).",
        )
    without = [one.change_id for one in moved]
    if not plans.release(ledger, plan_id, run, ["waiting", "approved"], without):
        raise plans.refusal(ledger, plans.plan_at(ledger, plan_id))
    return Released(plan_id, row.change_count, moved)


def _moved(
    ledger: Ledger, flow: Flow, rules: Rules, plan_id: int, patience: Patience, run: str
) -> Iterator[Moved]:  # fmt: skip
    """The plan's changes that are not what would be done now."""
    due: set[tuple[str, ...]] | None = None
    after = 0
    while page := plans.drafted(ledger, plan_id, after, _PAGE):
        after = page[-1].change_id
        for kind in ("organization", "user"):
            yield from _records_moved(ledger, flow, rules, [item for item in page if item.kind == kind])
        pairs = [item for item in page if item.kind in ("membership", "identity")]
        if pairs and due is None:
            rows = pair_changes(ledger, flow, rules.policies, patience, run)
            due = {tuple(row[name] for name in _PAIR) for row in rows}
        for item in pairs:
            if due is not None and tuple(getattr(item, name) for name in _PAIR) not in due:
                yield Moved(item.change_id, item.kind, f"{item.record_key} {item.other_key}", "no longer asked for")


def _records_moved(ledger: Ledger, flow: Flow, rules: Rules, items: Sequence[Any]) -> Iterator[Moved]:
    if not items:
        return
    keys = [item.record_key for item in items]
    now = {one.key: one for one in accounts.candidates(ledger, flow, items[0].kind, keys)}
    for item in items:
        why = _why_moved(item, now.get(item.record_key), rules.policies)
        if why:
            yield Moved(item.change_id, item.kind, item.record_key, why)


def _why_moved(item: Any, candidate: Candidate | None, policies: Policies) -> str:
    """Why what would be done now is not what was shown; empty if it is."""
    if candidate is None:
        return "no longer wanted"
    decision = decide(candidate, policies)
    if isinstance(decision, Settled):
        return f"now {decision.outcome} {decision.detail}".strip()
    if candidate.fingerprint != item.fingerprint:
        return "wanted otherwise: QAD or the mapping changed"
    if decision.base != item.base or decision.zendesk_id != item.zendesk_id:
        return "changed in Zendesk"
    shown = {name: list(values) for name, values in decision.difference.items()}
    return "" if (decision.operation, shown) == (item.operation, item.difference) else "done otherwise now"


def _named(moved: Sequence[Moved]) -> str:
    rest = len(moved) - _NAMED
    return ", ".join(map(str, moved[:_NAMED])) + (f" and {rest} more" if rest > 0 else "")
