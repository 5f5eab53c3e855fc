"""How a bulk job may go wrong, for every job by the settings or for one by a fault.

https://developer.zendesk.com/api-reference/ticketing/ticket-management/job_statuses/
Each of these was documented or seen: failed rows in three forms, a job that breaks off, one that nobody can find
any more although its rows are there, and ends without results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from .errors import Invalid

if TYPE_CHECKING:
    from ..state import Settings

CHOICES: dict[str, tuple[str | None, ...]] = {
    "failed_items": ("usual", "documented", "index", "id"),
    "results": ("rows", "null"),
    "message": ("usual", "null"),
    "vanishes": (None, "alone", "everywhere"),
    "ends": (None, "completed", "failed", "killed"),
}
Wording = Callable[[int, dict[str, Any], Invalid], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Oddities:
    """What is odd about a job. The defaults are a job that behaves as its kind usually does."""

    delay: float = 0.0
    failed_items: str = "usual"
    fails_after: int | None = None
    results: str = "rows"
    message: str = "usual"
    vanishes: str | None = None
    ends: str | None = None

    @classmethod
    def of(cls, settings: Settings, given: dict[str, Any]) -> Oddities:
        """The settings named `job_...`, with what a fault says of this one job."""
        usual = asdict(settings)
        return cls(**{item.name: given.get(item.name, usual[f"job_{item.name}"]) for item in fields(cls)})


def unknown_words(given: dict[str, Any]) -> list[str]:
    """What of a fault's `job` is not known, names and values."""
    names = {item.name for item in fields(Oddities)}
    wrong = [f"{name}={value}" for name, value in given.items() if value not in CHOICES.get(name, (value,))]
    return sorted(set(given) - names) + wrong


def failed_form(form: str, kind: str) -> Wording | None:
    """How a failed row is worded in `form`; None leaves it to the kind of job, as "Bulk Create User"."""
    verb = kind.split()[1]
    noun = "".join(word for word in kind.split() if word not in ("Bulk", "Create", "Or", "Update", "Delete"))
    if form == "documented":
        return documented(verb.lower())
    if form == "index":
        return indexed(f"{noun}{verb}Failed")
    return without_id if form == "id" else None


def documented(action: str) -> Wording:
    """The documented form of a failed item: `{id, action, success, error, details}`."""

    def word(_index: int, row: dict[str, Any], invalid: Invalid) -> dict[str, Any]:
        said = {"error": invalid.job_error, "details": invalid.text}
        return {"id": row.get("id"), "action": action, "success": False, **said}

    return word


def indexed(error: str) -> Wording:
    """The other form that is seen: `{index, error, details}`, without an id."""

    def word(index: int, _row: dict[str, Any], invalid: Invalid) -> dict[str, Any]:
        return {"index": index, "error": error, "details": invalid.text}

    return word


def without_id(_index: int, row: dict[str, Any], invalid: Invalid) -> dict[str, Any]:
    """The form of a bulk upsert: a row for each input, but the id of a failed one names nothing."""
    given = {"email": row.get("email"), "external_id": row.get("external_id")}
    return {"id": 1, "status": "Failed", **given, "error": invalid.job_error, "details": invalid.text}
