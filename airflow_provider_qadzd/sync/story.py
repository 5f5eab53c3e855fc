"""A record's story for people: as text with one line a step, as JSON, and as the answer to "why is it not there".

What is told stands in the ledger alone: no system is asked, and nothing is written.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger import causes as known
from airflow_provider_qadzd.ledger.forgetting import forgotten_since
from airflow_provider_qadzd.ledger.stories import WRITTEN_AS, Step, Story
from airflow_provider_qadzd.ledger.support import Support
from airflow_provider_qadzd.records import fold
from airflow_provider_qadzd.sync.reasons import UNMATCHED, Reason, reason_of

_NEAREST = 5
_LONGEST = 120
FINE = ("created", "updated", "unchanged", "adopted", "recreated", "deactivated", "membership_added")
"""Outcomes after which a record is in Zendesk as it should be."""


def near(ledger: Ledger, key: str, flow: str | None) -> list[str]:
    """The keys most like one that nobody knows, nearest first; also whoever has that name, email or external id."""
    words = [fold(key)]
    found = {fold(one): one for one in known.near_keys(ledger, key, flow, words)}
    alike = difflib.get_close_matches(fold(key), list(found), _NEAREST, 0.6)
    return [found[one] for one in alike] or sorted(found.values())[:_NEAREST]


def unknown_text(ledger: Ledger, key: str, flow: str | None) -> str:
    """What is said of a key without any story."""
    was = forgotten_since(ledger, key, flow)
    if was:
        return "\n".join(
            f"{of.capitalize()} {key} was forgotten on {when}: nothing is stored of it." for of, when in was
        )
    told = f"The ledger knows no customer, contact, ticket or delivery {key!r}."
    like = near(ledger, key, flow)
    if like:
        return f"{told} Near: {', '.join(like)}."
    return f"{told} If it is in QAD, its read has not brought it: look at the log of the task collect."


# -- a story -----------------------------------------------------------------------------------------------------------


def as_json(told: Sequence[Story]) -> str:
    """The stories as a JSON list, with every fact and step as the ledger has it."""
    return json.dumps([asdict(one) for one in told], indent=2, ensure_ascii=False)


def as_text(story: Story) -> str:
    """A heading, how it stands, and one line a step."""
    lines = [f"{story.of.capitalize()} {story.key} ({story.where})"]
    lines += [f"  {name:<14}{text}" for name, text in _facts(story)]
    lines += [f"  {one}" for one in map(_line, story.steps)]
    return "\n".join(lines)


def _facts(story: Story) -> Iterator[tuple[str, str]]:
    now = story.now
    if story.of not in WRITTEN_AS:
        for name, value in now.items():
            yield name.replace("_", " "), str(value)
        return
    if "first_seen_at" in now:
        told = ", ".join(str(now[name]) for name in ("name", "email") if name in now)
        gone = "" if now.get("listed", True) else "; the last complete read did not list it"
        yield "in QAD", f"{told}; last seen {now.get('last_seen_at', 'long ago')}{gone}"
    else:
        yield "in QAD", "no read has brought it"
    if "customers" in now:
        yield "customers", ", ".join(now["customers"])
    if "contacts" in now:
        more = now["contact_count"] - len(now["contacts"])
        yield "contacts", ", ".join(now["contacts"]) + (f" and {more} more" if more else "")
    if now.get("ticket_count"):
        yield "tickets", str(now["ticket_count"])
    yield "Zendesk", _zendesk(story)
    trouble = trouble_of(story)
    if trouble is not None:
        yield "why", f"{trouble.what} {trouble.advice}"


def _zendesk(story: Story) -> str:
    now, kind = story.now, WRITTEN_AS[story.of]
    under_way = f"; {now['open']['operation']} {now['open']['state']}" if "open" in now else ""
    if "zendesk_id" not in now:
        return f"no {kind} of its own{under_way}"
    gone = "" if now.get("there", True) else ", deleted there"
    return f"{kind} {now['zendesk_id']}{gone}, {now.get('outcome', 'linked')}{under_way}"


def _line(step: Step) -> str:
    about = f"{step.kind} {step.other}".strip() if step.kind in ("membership", "identity") else ""
    said = [about, _said(step), step.reason, _detail(step.detail)]
    return f"{step.at or 'some time':<24}  {step.what:<9} {_short(' '.join(part for part in said if part))}" + (
        f"  [{step.run}]" if step.run else ""
    )


def _said(step: Step) -> str:
    if step.what == "seen":
        return f"in QAD for the {step.told} time"
    if step.what == "sent":
        return f"in job {step.told}" if step.told else "by itself"
    return step.told.replace("_", " ")


def _detail(detail: Mapping[str, Any]) -> str:
    """What changed, field by field; other facts by name."""
    changed = detail.get("changed", detail)
    parts = [f"{name}={value}" for name, value in detail.items() if name != "changed" and not _is_pair(value)]
    if isinstance(changed, Mapping):
        parts += [f"{name}: {_value(v[0])} -> {_value(v[1])}" for name, v in changed.items() if _is_pair(v)]
    return "; ".join(parts)


def _is_pair(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _value(value: object) -> str:
    return "nothing" if value in (None, "") else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


# -- why ---------------------------------------------------------------------------------------------------------------


def trouble_of(story: Story) -> Reason | None:
    """Why a customer or contact is not in Zendesk as it should be; None if it is, and for tickets and deliveries."""
    if story.of not in WRITTEN_AS:
        return None
    now = story.now
    if "external_id" not in now:
        return _not_wanted(story)
    outcome, detail = str(now.get("outcome", "")), str(now.get("aside") or now.get("detail", ""))
    if "open" in now:
        under_way = now["open"]
        return Reason(
            "under_way", f"Its {under_way['operation']} is {under_way['state']} by {under_way['run'] or 'a run'}.",
            "Wait for that run; the next one goes on where it stops.",
        )  # fmt: skip
    if "aside" in now:
        return reason_of("set_aside", detail)
    if outcome in FINE and "zendesk_id" in now and now.get("there", True):
        return None
    if outcome in FINE and "zendesk_id" in now:
        return Reason("deleted", "It was deleted in Zendesk.", "The next run decides what becomes of it.")
    if outcome:
        return reason_of(outcome, detail)
    taken_back = any(step.told == "superseded" for step in story.steps)
    return reason_of("superseded" if taken_back else "", "")


def _not_wanted(story: Story) -> Reason:
    if "first_seen_at" in story.now:
        return Reason(
            "not_mapped", "QAD has it, and no run has planned since.", "Run the flow's DAG qadzd_sync_accounts."
        )
    return Reason("not_in_qad", "QAD no longer tells of it.", "Look it up in QAD; what was linked stays in Zendesk.")


def why_text(story: Story) -> str:
    """One record's standing in a few words, with what to do."""
    kind = WRITTEN_AS.get(story.of)
    if kind is None:
        return f"{story.of.capitalize()} {story.key} ({story.where}) {_inward(story)}"
    head = f"{story.of.capitalize()} {story.key} ({story.where})"
    trouble = trouble_of(story)
    if trouble is None:
        return f"{head} is in Zendesk: {kind} {story.now['zendesk_id']}."
    there = f"is linked to {kind} {story.now['zendesk_id']}" if "zendesk_id" in story.now else "is not in Zendesk"
    return f"{head} {there}. {trouble.what}\n  -> {trouble.advice or 'Nothing is to be done.'}"


def whys_json(told: Sequence[Story]) -> str:
    """The same of several as a JSON list: of, key, where, how it stands now, and `why` (null: nothing is amiss)."""
    rows = []
    for one in told:
        trouble = trouble_of(one)
        why = None if trouble is None else asdict(trouble)
        rows.append({"of": one.of, "key": one.key, "where": one.where, "now": dict(one.now), "why": why})
    return json.dumps(rows, indent=2, ensure_ascii=False)


def _inward(story: Story) -> str:
    """What became of a ticket or a delivery."""
    now = story.now
    if story.of == "delivery":
        said = f": {now['reason']}" if "reason" in now else ""
        return f"is {str(now['inbox_state']).replace('aside', 'set aside')}{said}."
    if "customer_key" in now:
        return f"belongs to {now['customer_key']}, by its {now.get('match_reason', 'link')}."
    reason = str(now.get("match_reason", ""))
    told = UNMATCHED.get(reason, "the ledger does not have it yet").format(detail=now.get("match_detail", ""))
    return f"has no customer: {told}."


@dataclass(frozen=True, slots=True)
class Cause:
    """How many records of a kind one reason keeps out, what it means for the first of them, and some keys."""

    flow: str
    kind: str
    code: str
    count: int
    what: str
    advice: str
    examples: tuple[str, ...]


def causes(ledger: Ledger, flow: str | None = None, examples: int = 3) -> list[Cause]:
    """Every reason for which records are not in Zendesk as they should be, by flow and kind, the commonest first."""
    counts: dict[tuple[str, str, str], int] = {}
    first: dict[tuple[str, str, str], tuple[Reason, list[str]]] = {}
    for name, kind, outcome, detail, key in known.troubled(ledger, flow):
        reason = reason_of(outcome, detail)
        group = (name, kind, reason.code)
        counts[group] = counts.get(group, 0) + 1
        _, keys = first.setdefault(group, (reason, []))
        if len(keys) < examples:
            keys.append(key)
    found = [
        Cause(*group, counts[group], reason.what, reason.advice, tuple(keys)) for group, (reason, keys) in first.items()
    ]
    return sorted(found, key=lambda one: (one.flow, one.kind, -one.count, one.code))


def causes_text(found: Sequence[Cause]) -> str:
    """A line for each reason with its count, then what it means for the first of them."""
    if not found:
        return "Every customer and contact that QAD has told of is in Zendesk as it should be."
    lines = []
    for one in found:
        lines.append(f"{one.count:>7} {one.kind:<12} {one.code:<24} {', '.join(one.examples)}  [{one.flow}]")
        lines.append(f"{'':>8}{one.examples[0]}: {one.what} {one.advice}")
    return "\n".join(lines)


def causes_json(found: Sequence[Cause]) -> str:
    """The same as a JSON list."""
    return json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False)


# -- a customer's tickets ----------------------------------------------------------------------------------------------


def support_text(found: Support) -> str:
    """A customer's tickets in numbers, then one line for each, newest change first."""
    counts = f"{found.open_tickets} open, {found.solved_tickets} solved; last changed {found.last_activity_at}"
    head = f"Customer {found.customer} ({found.flow}): {counts}. {found.base_url}/agent/tickets/ID"
    lines = [
        f"{t.ticket_id:>10}  {t.status:<8} {t.updated_at:<24} {t.solved_at or '-':<24} {_printable(t.subject)}"
        for t in found.tickets
    ]
    left = found.open_tickets + found.solved_tickets - len(lines)
    more = [f"... and {left} more; --limit shows more."] if left > 0 else []
    return "\n".join([head, f"{'ticket':>10}  {'status':<8} {'changed':<24} {'solved':<24} subject", *lines, *more])


def _printable(text: str) -> str:
    """A requester writes the subject, and a terminal obeys control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def support_json(found: Sequence[Support]) -> str:
    """The same for machines: a list, one entry for each flow that knows the customer."""
    told = [{**asdict(replace(one, tickets=())), "tickets": [row._asdict() for row in one.tickets]} for one in found]
    return json.dumps(told, indent=1)
