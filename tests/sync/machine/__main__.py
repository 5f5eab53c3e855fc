"""Runs the state machine for long: `python -m tests.sync.machine EXAMPLES [STEPS] [SEED]`; 2,000, 20 and random.

It prints what was met and how long it took; a failure is shrunk for a minute and printed as the steps to repeat it.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import run_state_machine_as_test

from airflow_provider_qadzd.sandbox import running
from tests.sync.machine.rules import AccountsMachine
from tests.sync.machine.stage import NOW, Stage


def main(examples: int = 2000, steps: int = 20, begin: int | None = None) -> None:
    """Run that many examples of that many rules at most, and say what was met."""
    begin = random.randrange(1 << 32) if begin is None else begin
    engine.MAX_SHRINKING_SECONDS = 60
    # In memory, where there is one: the ledger waits for the disk at each commit.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, running(now=NOW) as sandbox:
        AccountsMachine.stage = stage = Stage(sandbox, Path(folder))
        started = time.monotonic()
        try:
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                seed(begin)(AccountsMachine),
                settings=settings(
                    max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
                    suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
                    phases=[Phase.generate, Phase.shrink],
                ),
            )  # fmt: skip
        finally:
            for what, count in sorted(stage.met.items()):
                print(f"{count:7} {what}")
            seconds = time.monotonic() - started
            print(f"{stage.examples} examples, {stage.steps} rules, {seconds:.0f} s, seed {begin}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
