"""`python -m tests.conformance SPEC`: prints what was judged and how it went; exits 1 on any undeclared deviation."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from airflow_provider_qadzd.sandbox import running
from tests.conformance.document import Deviation, Document
from tests.conformance.drive import Exchange, drive
from tests.conformance.known import KNOWN, Known
from tests.conformance.visit import unreached, visit

ABSENT = "not in the document"


@dataclass
class Line:
    """What was judged of one operation."""

    requests: int = 0
    answers: int = 0
    deviations: set[Deviation] = field(default_factory=set)
    absent: bool = False

    def verdict(self) -> str:
        """In a few words."""
        if self.absent:
            return ABSENT
        excused = sum(1 for one in self.deviations if excuse(one))
        wrong = len(self.deviations) - excused
        return f"DEVIATES ({wrong})" if wrong else f"conforms ({excused} known)" if excused else "conforms"


def excuse(one: Deviation) -> Known | None:
    """The entry of the table that covers it."""
    return next((entry for entry in KNOWN if entry.covers(one)), None)


def judged(document: Document, exchanges: list[Exchange]) -> dict[str, Line]:
    """Each operation with what was found. Errors are not judged: the document declares next to none."""
    lines: defaultdict[str, Line] = defaultdict(Line)
    for exchange in exchanges:
        request, answer = exchange.request, exchange.answer
        operation = document.operation(request)
        line = lines[operation or f"{request.method} {_family(request.path_url)}"]
        line.absent = operation is None
        if operation is None:
            continue
        line.requests += 1
        line.deviations |= document.request_deviations(request)
        if answer.ok:
            line.answers += 1
            line.deviations |= document.answer_deviations(request, answer)
    return dict(lines)


def _family(path: str) -> str:
    """A path without its query and with its ids, which are the long parts, left out."""
    return "/".join("{id}" if len(part) > 20 else part for part in path.split("?")[0].split("/"))


def table(lines: dict[str, Line]) -> None:
    """Print a row for each operation, the sum, and every deviation."""
    wide = max(map(len, lines)) + 2
    print(f"{'operation':<{wide}}{'requests':>8}{'answers':>9}  verdict")
    for operation, line in sorted(lines.items(), key=lambda item: (item[1].absent, item[0].split(" ")[1], item[0])):
        print(f"{operation:<{wide}}{line.requests:>8}{line.answers:>9}  {line.verdict()}")
    judged = [line for line in lines.values() if not line.absent]
    requests, answers = (sum(getattr(line, name) for line in judged) for name in ("requests", "answers"))
    print(f"{f'{len(judged)} operations':<{wide}}{requests:>8}{answers:>9}")


def explained(found: set[Deviation]) -> None:
    """Print the known deviations with their evidence."""
    print("\nKnown deviations of the real service from the document:")
    for entry in KNOWN:
        count = sum(1 for one in found if excuse(one) is entry)
        print(f"  {entry.side} {entry.operation}, {entry.place} {entry.kind} ({count}): {entry.evidence}")


def complaints(found: set[Deviation], not_called: set[str], left: set[str]) -> list[str]:
    """What fails the run."""
    wrong = [f"{one.side} {one.operation}: {one.place} {one.kind}" for one in sorted(found) if not excuse(one)]
    used = {excuse(one) for one in found}
    wrong += [
        f"known deviation not seen: {entry.operation} {entry.place} {entry.kind}"
        for entry in KNOWN
        if entry not in used
    ]
    wrong += [f"client method not reached: {name}" for name in sorted(not_called)]
    return wrong + [f"route of the sandbox not reached: {name}" for name in sorted(left)]


def main() -> int:
    """Drive, judge, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("document", type=Path, help="path of Zendesk's OpenAPI document (YAML)")
    path, started = parser.parse_args().document, time.monotonic()
    with running(customers=40, contacts=120, tickets=200, seed=1) as sandbox:
        sandbox.post_control("limits", {"enabled": False})
        record, not_called = drive(sandbox)
        visited = visit(sandbox)
        left = unreached(sandbox)
        document = Document(path, sandbox.url)
    lines = judged(document, [*record.exchanges, *visited.exchanges])
    found = {one for line in lines.values() for one in line.deviations}
    table(lines)
    explained(found)
    wrong = complaints(found, not_called, left)
    print(f"\nClient methods reached: {len(record.called)}, not reached: {', '.join(sorted(not_called)) or 'none'}.")
    print(f"Routes of the sandbox not reached: {', '.join(sorted(left)) or 'none'}.")
    print(f"Undeclared deviations: {len(wrong) or 'none'}. {time.monotonic() - started:.1f} s.")
    for line in wrong:
        print(f"  {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
