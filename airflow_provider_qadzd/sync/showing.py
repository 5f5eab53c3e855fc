"""A plan in words: for a terminal, for a page, and as JSON.

A page and a terminal say the same: how far the plan is, what it costs, counts by kind and outcome, which fields change
and from what to what, why records are set aside, and then the changes themselves.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_qadzd.ledger import Ledger, plans
from airflow_provider_qadzd.records import OUTCOMES
from airflow_provider_qadzd.sync.estimate import Estimate

KINDS = {"organization": "Organizations", "user": "Users", "membership": "Memberships", "identity": "Second emails"}
"""What is written to Zendesk, as a heading."""

STATES = {
    "drafting": "is being made, or was never finished",
    "shown": "dry run: nothing of it is sent",
    "stopped": "stopped by the brake: nothing of it is sent",
    "waiting": "waits for a review",
    "approved": "approved, about to be applied",
    "going": "is being applied",
    "applied": "applied",
    "superseded": "superseded by a newer plan",
}
"""How far a plan is, in words."""

REASONS = {
    "no_name": "has no name in QAD",
    "two_different_records_with_this_key": "QAD gave two different records with this key",
    "case_twin": "another QAD key differs only by upper and lower case",
    "user_deleted_in_zendesk": "the user was deleted in Zendesk by hand",
    "is_agent": "the linked user has become an agent",
    "is_admin": "the linked user has become an admin",
    "email_of_agent": "the email is an agent's",
    "email_of_admin": "the email is an admin's",
    "email_held_by": "the email belongs to another user",
    "external_id_of_agent": "the external id is an agent's",
    "external_id_of_admin": "the external id is an admin's",
    "external_id_held_by": "the external id belongs to another record",
    "name_held_by": "the name belongs to another organization",
    "refused_by_zendesk": "Zendesk refused it within the last day",
    "forbidden_by_zendesk": "Zendesk does not let us change it",
}
"""Why a record is set aside, by the first word of the reason; others are shown as they are."""

_SAMPLE = 5000
_PAIRS = 3
_KEYS = ("external_id", "qad_customer", "qad_contact", "qad_link")
_LONGEST = 60


def reason_in_words(reason: str) -> str:
    """The reason for people, whoever is named in it left out."""
    code = reason.split(" ")[0]
    return REASONS.get(code, code.replace("_", " "))


@dataclass(frozen=True, slots=True)
class FieldChange:
    """How often a field changes among the updates that were looked at, and the commonest (before, after, count)."""

    kind: str
    name: str
    count: int
    commonest: tuple[tuple[str, str, int], ...]

    @property
    def others(self) -> int:
        """How many changes the commonest leave out."""
        return self.count - sum(count for _, _, count in self.commonest)


@dataclass(frozen=True, slots=True)
class Shown:
    """One plan, ready to be shown; `fields` are of its first updates, `sampled` of them."""

    row: plans.PlanRow
    state: str
    brake: str
    estimate: str
    columns: tuple[str, ...]
    fields: tuple[FieldChange, ...]
    sampled: int
    progress: dict[str, int]

    @property
    def counts(self) -> dict[str, Mapping[str, int]]:
        """Counts by outcome of the kinds that have any, in the order in which they are applied."""
        order = [*(kind for kind in KINDS if kind in self.row.counts), *(set(self.row.counts) - set(KINDS))]
        return {kind: self.row.counts[kind] for kind in order if sum(self.row.counts[kind].values())}


def shown(ledger: Ledger, row: plans.PlanRow) -> Shown:
    """What there is to say about a plan as a whole."""
    updates = plans.updates(ledger, row.plan_id, _SAMPLE)
    cost = Estimate(**row.estimate).summary() if row.estimate else "not known"
    brake = "Within the brake." if row.plan_state != "stopped" else row.stopped or "Stopped before it was whole."
    progress = plans.progress(ledger, row.plan_id) if row.plan_state in ("going", "applied", "superseded") else {}
    return Shown(
        row, STATES[row.plan_state], brake, cost, _columns(row.counts), tuple(_fields(updates)), len(updates), progress
    )


def action_of(item: plans.Item) -> str:
    """What is done: the intended outcome, or the operation where there is none."""
    return str(item.intended or item.operation)


def field_name(name: str) -> str:
    """A field without the part that every custom field has."""
    return name.removeprefix("organization_fields.").removeprefix("user_fields.")


def value_in_words(value: object) -> str:
    """A value, shortened; nothing and an empty text are a dash."""
    if value is None or value in ("", []):
        return "–"  # noqa: RUF001 - an en dash, to be seen
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def differences(item: plans.Item) -> list[tuple[str, str, str]]:
    """Field, before and after, as text; none for a membership or an email."""
    if item.kind not in ("organization", "user"):
        return []
    found = [(field_name(name), *map(value_in_words, pair)) for name, pair in item.difference.items()]
    return [(name, before, after) for name, before, after in found]


def in_short(fields: Sequence[tuple[str, str, str]]) -> str:
    """What a new record will hold, in a line: its values without those that the line shows already."""
    return " · ".join(after for name, _, after in fields if name not in ("name", *_KEYS))


def _columns(counts: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """The outcomes that occur, in the vocabulary's order; what needs nothing comes last."""
    there = {name for by in counts.values() for name, count in by.items() if count}
    order = ["added", *(name for name in OUTCOMES if name not in ("set_aside", "unchanged"))]
    rest = sorted(there - {*order, "set_aside", "unchanged"})
    return tuple(name for name in (*order, *rest, "set_aside", "unchanged") if name in there)


def _fields(updates: Iterable[tuple[str, str, Mapping[str, Any]]]) -> list[FieldChange]:
    pairs: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
    for kind, _, difference in updates:
        for name, (before, after) in difference.items():
            found = pairs.setdefault((kind, field_name(name)), Counter())
            found[value_in_words(before), value_in_words(after)] += 1
    told = [FieldChange(kind, name, found.total(), _commonest(found)) for (kind, name), found in pairs.items()]
    return sorted(told, key=lambda one: (one.kind, -one.count, one.name))


def _commonest(pairs: Counter[tuple[str, str]]) -> tuple[tuple[str, str, int], ...]:
    """Those that occur more than once; where each is its own, one of them for an example."""
    often = [(*pair, count) for pair, count in pairs.most_common(_PAIRS)]
    return tuple([one for one in often if one[2] > 1] or often[:1])


# -- at a terminal -----------------------------------------------------------------------------------------------------


def as_text(plan: Shown, items: Sequence[plans.Item]) -> str:
    """The whole of it, with these changes."""
    row = plan.row
    lines = [
        f"Plan {row.plan_id} of flow {row.flow_name}: {plan.state}.",
        f"  Made {_minute(row.made_at)} by {row.run}, {row.change_count:,} changes, hash {row.plan_hash[:12]}.",
        f"  It takes {plan.estimate}.",
        f"  {plan.brake}",
    ]
    if row.approved_by:
        lines.append(f"  Approved by {row.approved_by}, {_minute(row.approved_at)}.")
    if plan.progress:
        lines.append(f"  So far: {', '.join(f'{count:,} {name}' for name, count in sorted(plan.progress.items()))}.")
    lines += ["", *_table(counts_table(plan))]
    lines += _section("Fields that change", _fields_lines(plan))
    lines += _section("Set aside", _aside_lines(row.asides))
    lines += _section(f"Changes ({len(items):,} of {row.change_count:,})", _item_lines(items))
    return "\n".join(lines)


def counts_table(plan: Shown) -> list[list[str]]:
    """Kinds down, outcomes across, with a heading."""
    head = ["", *(name.replace("_", " ") for name in plan.columns)]
    return [head, *(
        [KINDS.get(kind, kind), *(f"{by.get(name, 0):,}" if by.get(name) else "–" for name in plan.columns)]  # noqa: RUF001
        for kind, by in plan.counts.items()
    )]  # fmt: skip


def list_as_text(rows: Sequence[plans.PlanRow]) -> str:
    """Plans, one a line."""
    told = [
        [str(r.plan_id), r.flow_name, _minute(r.made_at), f"{r.change_count:,}", STATES[r.plan_state], r.run]
        for r in rows
    ]
    return "\n".join(_table([["plan", "flow", "made", "changes", "state", "run"], *told]))


def as_json(plan: Shown, items: Sequence[plans.Item]) -> str:
    """The same for machines, values unshortened."""
    told = {name: value for name, value in plan.row._mapping.items() if name != "flow_id"}
    told["changes"] = [_plain(item) for item in items]
    told["fields"] = {f"{one.kind}.{one.name}": one.count for one in plan.fields}
    told["progress"] = plan.progress
    return json.dumps(told, indent=1, ensure_ascii=False)


def _plain(item: plans.Item) -> dict[str, Any]:
    names = ("change_id", "kind", "record_key", "name", "other_key", "other_name", "zendesk_id", "difference",
             "change_state", "outcome", "reason")  # fmt: skip
    return {"action": action_of(item), **{name: getattr(item, name) for name in names}}


def _fields_lines(plan: Shown) -> list[str]:
    lines = []
    for one in plan.fields:
        told = (f"{before} -> {after}" + (f" (x{n:,})" if n > 1 else "") for before, after, n in one.commonest)
        pairs = "; ".join([*told, f"{one.others:,} others"] if one.others else told)
        lines.append(f"{one.count:>7,}  {one.kind} {one.name}: {pairs}")
    if plan.sampled == _SAMPLE:
        lines.append(f"         of the first {_SAMPLE:,} updates")
    return lines


def _aside_lines(asides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{group['count']:>7,}  {kind}: {reason_in_words(reason)} ({', '.join(key for key, _ in group['examples'])}"
        + (", ...)" if group["count"] > len(group["examples"]) else ")")
        for kind, by in asides.items()
        for reason, group in sorted(by.items(), key=lambda one: -one[1]["count"])
    ]


def _item_lines(items: Sequence[plans.Item]) -> list[str]:
    lines = []
    for item in items:
        other = f" in {item.other_key} {item.other_name or ''}".rstrip() if item.other_key else ""
        became = f"  [{item.outcome or item.change_state}{': ' + item.reason if item.reason else ''}]"
        became = became if (item.outcome or item.change_state) not in ("drafted", "planned") else ""
        lines.append(f"{action_of(item):<10} {item.kind} {item.record_key} {item.name or ''}".rstrip() + other + became)
        for name, before, after in differences(item):
            lines.append(f"             {name}: {after if item.operation == 'create' else f'{before} -> {after}'}")
    return lines


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _minute(moment: str | None) -> str:
    return f"{(moment or '')[:16].replace('T', ' ')} UTC"
