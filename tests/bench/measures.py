"""What a case returns, and how it is told."""

from __future__ import annotations

import json
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Measure:
    """One number. `target` is what it must be at most or, with `at_least`, at least."""

    case: str
    measure: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        meets: Callable[[float, float], bool] = operator.ge if self.at_least else operator.le
        return meets(self.value, self.target)

    def as_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {
            "case": self.case, "measure": self.measure, "value": round(self.value, 4), "unit": self.unit,
            "target": self.target, "holds": self.holds,
        }  # fmt: skip


class Watch:
    """Seconds since it was made, or how long its block took."""

    def __init__(self) -> None:
        self._started, self._ended = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        return (self._ended or time.perf_counter()) - self._started

    def stop(self) -> None:
        self._ended = time.perf_counter()


@contextmanager
def timed() -> Iterator[Watch]:
    """A watch that stops at the end of the block."""
    watch = Watch()
    yield watch
    watch.stop()


def peak_memory() -> float:
    """The most memory that this process has had, in MiB.

    Not `ru_maxrss`: a process begins with that of the one which started it, also after exec (seen on Linux).
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def show(found: Sequence[Measure]) -> None:
    """Print a case's numbers."""
    wide = max(len(one.measure) for one in found)
    print(f"\n{found[0].case}")
    for one in found:
        verdict = {None: "", True: "holds", False: "DOES NOT HOLD"}[one.holds]
        target = "" if one.target is None else f"{'at least' if one.at_least else 'at most'} {_number(one.target)}"
        print(f"  {one.measure:<{wide}}  {_number(one.value):>10} {one.unit:<22} {target:<18} {verdict}".rstrip())


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


def write(found: Sequence[Measure], path: Path) -> None:
    """The file that other programs read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([one.as_json() for one in found], indent=1) + "\n", encoding="utf-8")
