"""One virtual time for several processes and the sandbox: it passes only while all of them wait.

When every process sleeps, time goes on to the moment at which the first of them wakes, in the sandbox as well. So half
an hour of waiting for limits takes as long as the work in it, whatever the machine.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from typing import Any

import requests

_AWAKE = -1.0
_STUCK = 120.0


class Times:
    """The time that is shared, of `count` processes. To be handed to each of them when it is started."""

    def __init__(self, url: str, count: int, spawn: SpawnContext) -> None:
        self.url = url
        self.changed: Any = spawn.Condition()
        self.now: Any = spawn.Value("d", math.floor(time.time()), lock=False)
        self.wakes: Any = spawn.Array("d", [_AWAKE] * count, lock=False)
        self._tell()

    def move(self) -> None:
        """Go on to the next moment at which somebody wakes, if all sleep. The caller holds `changed`."""
        soonest = min(self.wakes)
        if soonest > self.now.value and not math.isinf(soonest):
            self.now.value = soonest
            self._tell()
            self.changed.notify_all()

    def _tell(self) -> None:
        body = {"frozen": True, "now": self.now.value}
        requests.post(f"{self.url}/_sandbox/clock", json=body, timeout=60).raise_for_status()


@dataclass(frozen=True, slots=True)
class ProcessClock:
    """The Clock of process number `index`, which sleeps in one thread only."""

    times: Times
    index: int

    def time(self) -> float:
        return float(self.times.now.value)

    def sleep(self, seconds: float) -> None:
        times, until = self.times, self.times.now.value + max(seconds, 0.001)
        with times.changed:
            times.wakes[self.index] = until
            times.move()
            while times.now.value < until:
                if not times.changed.wait(_STUCK):
                    raise RuntimeError("time stands still: some process neither works nor sleeps")
            times.wakes[self.index] = _AWAKE

    def end(self) -> None:
        """This process sleeps for ever: the others need not wait for it."""
        with self.times.changed:
            self.times.wakes[self.index] = math.inf
            self.times.move()


def spawning() -> SpawnContext:
    """How processes are made: afresh, with nothing of ours in them."""
    return multiprocessing.get_context("spawn")
