"""The journey out against everything at once: always the same examples; `tests.sync.machine` tries others for long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from airflow_provider_qadzd.sandbox import running
from tests.sync.machine.rules import AccountsMachine
from tests.sync.machine.stage import NOW, Stage

QUICK = settings(
    max_examples=20, stateful_step_count=20, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck), phases=[Phase.generate], report_multiple_bugs=False,
)  # fmt: skip


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A sandbox of its own, whose time stands still."""
    with running(now=NOW) as sandbox:
        yield Stage(sandbox, tmp_path_factory.mktemp("machine"))


def test_whatever_happens_a_clean_run_puts_all_right(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """After edits on both sides, faults, kills and overtakings, a clean run leaves what QAD wants and nothing twice."""
    monkeypatch.setattr(AccountsMachine, "stage", stage, raising=False)
    run_state_machine_as_test(AccountsMachine, settings=QUICK)  # type: ignore[no-untyped-call]
    assert stage.examples >= 20
    assert stage.met["runs killed"] > 0
