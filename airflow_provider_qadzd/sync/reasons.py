"""Why a record is not in Zendesk as it should be, in words, and what a person can do about it.

The ledger keeps an outcome and a detail such as `email_of_agent 123`: short, and the same for all who share the cause.
Here each becomes a sentence. Pure: nothing here reads or writes anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_AGAIN = "The next run decides it anew."


@dataclass(frozen=True, slots=True)
class Reason:
    """`code` is alike for all records of one cause; `what` is said of this one; `advice` is what to do."""

    code: str
    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a detail looks like, and what is said of it; `{name}` stands for the part of the detail of that name."""

    pattern: str
    code: str
    what: str
    advice: str


_RULES = (
    _Rule(
        "no_name", "no_name", "QAD gives it no name, and Zendesk takes nothing without one.",
        f"Give it a name in QAD. {_AGAIN}",
    ),
    _Rule(
        "two_different_records_with_this_key", "two_different_records_with_this_key",
        "One read of QAD gave two different records with this key, and nobody can tell which one is meant.",
        "Give one of them another key in QAD, or read fewer workspaces in one flow.",
    ),
    _Rule(
        "case_twin of (?P<key>.+)", "case_twin", "Its key differs from {key} only by capitals, and Zendesk sees no "
        "difference there.", "Give one of the two another key in QAD.",
    ),
    _Rule(
        "user_deleted_in_zendesk", "user_deleted_in_zendesk",
        "Somebody deleted its user in Zendesk; that may have been a request for erasure, so it is not made again.",
        "If it was: `airflow qadzd forget` it here, too. If not: restore the user in Zendesk.",
    ),
    _Rule(
        "is_(?P<role>agent|admin)", "is_staff", "Its user has become an {role} in Zendesk, and staff are never "
        "written.", "Nothing, if that is right; else make the user an end user again.",
    ),
    _Rule(
        r"(?P<by>external_id|email)_of_(?P<role>agent|admin) (?P<id>\d+)", "of_staff",
        "Its {by} is that of the {role} {id} in Zendesk, and staff are never written.",
        "Correct the {by} in QAD, or leave it so.",
    ),
    _Rule(
        r"(?P<by>external_id|email|name)_held_by external id of (?P<id>\d+)", "held_by_a_stranger",
        "Zendesk's record {id} has this {by} and an external id that is not ours.",
        "If it is this one, clear its external id in Zendesk; else change the {by} on one side.",
    ),
    _Rule(
        "(?P<by>external_id|email|name)_held_by (?P<key>.+)", "held_by_another_key",
        "The record in Zendesk that has this {by} belongs to {key}.", "Change the {by} of one of the two in QAD.",
    ),
    _Rule(
        r"(?P<id>\d+)_held_by (?P<key>.+)", "held_by_another_key",
        "Zendesk's record {id}, which it came out as, belongs to {key}.", "Look at both stories; they may be one.",
    ),
    _Rule(
        r"refused_by_zendesk (?P<codes>.*), held by (?P<id>\d+)", "refused_by_zendesk",
        "Zendesk refused it ({codes}): its record {id} holds that value, maybe as a second address.",
        "Change the value on one side, then replay it; it is tried again once a day by itself.",
    ),
    _Rule(
        "refused_by_zendesk ?(?P<codes>.*)", "refused_by_zendesk", "Zendesk refused it ({codes}).",
        "Correct the value in QAD; what stays the same is tried again once a day, or when you replay it.",
    ),
    _Rule(
        "forbidden_by_zendesk", "forbidden_by_zendesk", "Zendesk lets nobody change this user: it is shared from "
        "another account.", "Nothing can be done here.",
    ),
    _Rule(
        "waits for its (?P<what>user|organization)", "waits", "Its {what} is not in Zendesk yet.",
        "Ask why of that one.",
    ),
    _Rule(
        "gone", "gone", "It was deleted in Zendesk while it was being written.", _AGAIN,
    ),
)  # fmt: skip

_OUTCOMES = {
    "shared_with": Reason(
        "shared_with", "It shares its mailbox with {detail}, so both are one user in Zendesk.",
        "Nothing is wrong. Give it an address of its own in QAD if it should have its own user.",
    ),
    "failed_retryable": Reason("failed_retryable", "The last try came to nothing ({detail}).", _AGAIN),
    "failed": Reason("failed", "The last try failed ({detail}).", "Look at its story, then replay it."),
    "postponed": Reason("postponed", "It was put off ({detail}).", _AGAIN),
    "unknown": Reason("unknown", "The answer to the last try was lost.", "The next run looks for it in Zendesk."),
    "superseded": Reason(
        "superseded", "It was planned, and a newer plan took it back before it was sent.",
        "If no run sends it: was that a dry run, or has the brake stopped the plan?",
    ),
    "": Reason("not_planned", "No run has decided about it yet.", "Run the flow's DAG qadzd_sync_accounts."),
}  # fmt: skip

UNMATCHED = {
    "ambiguous": "its requester belongs to several, {detail}; put the ticket into one organization",
    "requester_without_customer": "its requester is a contact without an organization in Zendesk",
    "requester_unknown": "its requester is nobody whom QAD knows",
    "no_requester": "it has no requester",
    "forgotten": "that one was forgotten",
}
"""Why a ticket has no customer, by its `match_reason`."""


def reason_of(outcome: str, detail: str) -> Reason:
    """The outcome and detail that the ledger keeps of a record, in words. A detail without words is told as it is."""
    for rule in _RULES:
        found = re.fullmatch(rule.pattern, detail)
        if found:
            named = {name: value or "no reason given" for name, value in found.groupdict().items()}
            return Reason(rule.code, rule.what.format(**named), rule.advice.format(**named))
    known = _OUTCOMES.get(outcome)
    if known is not None:
        return Reason(known.code, known.what.format(detail=detail or "no reason given"), known.advice)
    code = detail.split(" ")[0] or outcome
    return Reason(code, f"It is {outcome.replace('_', ' ')}: {detail or 'no reason given'}.", "Look at its story.")
