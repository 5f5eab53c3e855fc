"""`python -m tests.bench [case ...]`: runs the cases, prints them and writes `build/bench.json`."""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

from tests.bench import floors, pace, qxtend, receiver, rest, size, tickets
from tests.bench.measures import Measure, Watch, show, write

CASES = {
    "floors": floors,
    "size": size,
    "pace": pace,
    "rest": rest,
    "qxtend": qxtend,
    "tickets": tickets,
    "receiver": receiver,
}
FILE = Path(__file__).resolve().parents[2] / "build" / "bench.json"


def main() -> None:
    """Measure, print, write. A target that is missed is told, it does not fail the run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("case", nargs="*", help=f"{', '.join(CASES)}; all of them without one")
    wanted = parser.parse_args().case or list(CASES)
    if unknown := sorted(set(wanted) - set(CASES)):
        parser.error(f"there is no case {', '.join(unknown)}")
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    watch, found = Watch(), list[Measure]()
    for name in wanted:
        by_case: dict[str, list[Measure]] = {}
        for one in CASES[name].measure():
            by_case.setdefault(one.case, []).append(one)
        for measures in by_case.values():
            show(measures)
            found += measures
    write(found, FILE)
    missed = [f"{one.case}: {one.measure}" for one in found if one.holds is False]
    print(f"\nTargets missed: {'; '.join(missed) or 'none'}. {watch.seconds:.0f} s; written to {FILE.name}.")


if __name__ == "__main__":
    main()
