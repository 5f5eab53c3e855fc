"""Whose a field is: ours always, Zendesk's once it is made, ours while it is empty, or a list that both add to. Pure.

    qad      what QAD says, whatever stands there
    zendesk  written when the record is created, and never compared or touched again
    fill     written while nothing stands there
    merge    a list: what we added and no longer want goes, what others added stays

A merged list is decided on three lists: the entries remembered as ours, those wanted, and those that are there. Only
what was not there before we wrote it is remembered as ours, so an entry that somebody else had set is never taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from airflow_provider_qadzd.records import Flat, fold

Ownership = Literal["qad", "zendesk", "fill", "merge"]
OWNERS: tuple[str, ...] = get_args(Ownership)

ONLY_AT_CREATION = ("email", "phone")
"""A primary email is writable only on create, and an update of the phone adds a second number."""


def owner_of(name: str, owners: Mapping[str, str]) -> str:
    """The owner of a field; `owners` names those that are not as usual."""
    return owners.get(name) or ("zendesk" if name in ONLY_AT_CREATION else "qad")


def to_change(wanted: Flat, current: Flat, remembered: Flat, owners: Mapping[str, str]) -> dict[str, tuple[Any, Any]]:
    """What an update has to change of an existing record: field -> (before, after)."""
    changes = {}
    for name, value in wanted.items():
        before = current.get(name)
        owner = owner_of(name, owners)
        # Of a record that was observed without this field nothing is known, so nothing is taken away from it.
        if owner == "zendesk" or (owner in ("fill", "merge") and name not in current):
            continue
        if owner == "fill" and not is_blank(before):
            continue
        after = merged(_entries(remembered.get(name)), _entries(value), _entries(before)) if owner == "merge" else value
        if not same(before, after):
            changes[name] = (before, after)
    return changes


def ours(wanted: Flat, current: Flat, remembered: Flat, owners: Mapping[str, str]) -> dict[str, list[Any]]:
    """Of each merged list, the wanted entries that are ours: remembered as such, or not there yet."""
    found = {}
    for name in wanted:
        if owners.get(name) == "merge":
            known = _entries(remembered.get(name))
            there = _folded(_entries(current.get(name))) - _folded(known)
            # A record that was observed without this field has not lost or gained anything in it.
            found[name] = [one for one in _entries(wanted[name]) if fold(str(one)) not in there]
            if name not in current:
                found[name] = known
    return found


def merged(remembered: Iterable[Any], wanted: Iterable[Any], current: Iterable[Any]) -> list[Any]:
    """`current` without what is ours and no longer wanted, and with what is wanted; case makes no difference."""
    wanted = list(wanted)
    gone = _folded(remembered) - _folded(wanted)
    kept = [one for one in current if fold(str(one)) not in gone]
    there = _folded(kept)
    return kept + [one for one in wanted if fold(str(one)) not in there]


def is_blank(value: object) -> bool:
    """Whether nothing stands there; false and zero are something."""
    return value is None or value == "" or value == []


def same(before: object, after: object) -> bool:
    """Whether Zendesk would show the two alike: lists in any order, and midnight of a day as that day."""
    if is_blank(before) or is_blank(after):
        return is_blank(before) and is_blank(after)
    if isinstance(before, list) and isinstance(after, list):
        return _folded(before) == _folded(after)
    if isinstance(before, str) and isinstance(after, str):
        return before == after or (len(after) == 10 and before.startswith(f"{after}T00:00:00"))
    return before == after


def _entries(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _folded(entries: Iterable[Any]) -> set[str]:
    return {fold(str(one)) for one in entries}
