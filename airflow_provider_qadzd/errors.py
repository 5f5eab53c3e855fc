"""Every error this package raises, named by what to do next.

An error carries the parsed facts of what went wrong (which system, which call, which record) and one sentence on the
way out. It never carries a secret and never a request or answer body, so it may be logged and stored as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a failed call: parsed values only, nothing that could hold a secret.

    `path` has no query string. `code` is the vendor's error code (`RecordInvalid`, `invalid_token`), never its
    localised text. `request_id` is what the vendor's support asks for. `details` maps a field to its error code.
    """

    system: str = ""
    method: str = ""
    path: str = ""
    status: int | None = None
    code: str = ""
    request_id: str = ""
    record: str = ""
    details: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        shown = (f"{name}={_spelt(value)}" for name, value in named if value not in ("", None, ()))
        return " ".join(shown)


def _spelt(value: object) -> str:
    return ",".join(f"{name}:{code}" for name, code in value) if isinstance(value, tuple) else str(value)


class QadzdError(Exception):
    """What went wrong, in a sentence; `advice` is what to do next; `facts` is what is known."""

    def __init__(self, what: str, *, advice: str = "", facts: Facts = Facts()) -> None:
        self.what, self.advice, self.facts = what, advice, facts
        super().__init__(what, advice, facts)

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword arguments do not survive pickling by themselves, and a worker's error must reach its parent.
        return _again, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        known = str(self.facts)
        return " ".join(part for part in (self.what, f"[{known}]" if known else "", self.advice) if part)


def _again(kind: type[QadzdError], args: tuple[Any, ...], known: dict[str, Any]) -> QadzdError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(known)
    return error


class TryLater(QadzdError):
    """Busy, or gone for a moment: the same call may well succeed after `wait` seconds. A retry helps.

    `unanswered` is true when the request may have taken effect although no answer came back: a write must then be
    probed before it is repeated.
    """

    def __init__(
        self, what: str, *, wait: float = 60.0, unanswered: bool = False, advice: str = "", facts: Facts = Facts()
    ) -> None:  # fmt: skip
        super().__init__(what, advice=advice, facts=facts)
        self.wait, self.unanswered = wait, unanswered


class FixFirst(QadzdError):
    """Credentials, permission or configuration: a person must look. A retry does not help."""


class SetAside(QadzdError):
    """This one record cannot be synced, for the `reason` given; every other record goes on. A retry does not help."""

    def __init__(self, reason: str, what: str, *, advice: str = "", facts: Facts = Facts()) -> None:
        super().__init__(what, advice=advice, facts=facts)
        self.reason = reason


class UnsafePlan(QadzdError):
    """A plan that would change more than the brake allows. Nothing of it was sent. A person must look."""
