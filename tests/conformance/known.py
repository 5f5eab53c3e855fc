"""Where the real service is seen to differ from the document, each with the evidence.

The sandbox follows the service, not the document, in these. An entry that no exchange shows any more fails the run as
well, so that the table holds nothing untrue.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from tests.conformance.document import Deviation


@dataclass(frozen=True, slots=True)
class Known:
    """A deviation that is excused, and why. `operation`, `place` and `kind` are patterns in which `*` is anything."""

    side: Literal["request", "answer"]
    operation: str
    place: str
    kind: str
    evidence: str

    def covers(self, one: Deviation) -> bool:
        """Whether this excuses that deviation."""
        pairs = ((one.operation, self.operation), (one.place, self.place), (one.kind, self.kind))
        return one.side == self.side and all(fnmatchcase(text, _literal(pattern)) for text, pattern in pairs)


def _literal(pattern: str) -> str:
    return pattern.replace("[", "[[]")


KNOWN: tuple[Known, ...] = ()
