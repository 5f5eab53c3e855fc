"""The mapping file in a real Airflow: read by tasks and never while DAGs are parsed."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.operators.flow import OpenFlow
from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.test_dags import DAGS, DagBag


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the mapping file is."""
    found = tmp_path / "map.yaml"
    monkeypatch.setenv("AIRFLOW__QADZD__MAPPING_PATH", str(found))
    return found


def test_without_a_path_the_default_holds() -> None:
    """The option is empty by default."""
    assert config.mapping() is config.DEFAULT


def test_a_file_is_the_rules_of_every_flow(sandbox: Sandbox, path: Path) -> None:
    """What a task maps by is the file as it is when the task runs."""
    path.write_text("organization:\n  notes: '{city}'\n")
    before = OpenFlow("default").rules
    assert "notes" in before.mapping.compared("organization")
    path.write_text("")
    assert OpenFlow("default").rules.digest != before.digest


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot be read: No such file"), (b"\xff\xfe", "not UTF-8"), (b"x: 1", "line 1: x: 'x' is not known here")],
    ids=["no file", "not text", "a mistake"],
)
def test_a_bad_file_stops_a_task_and_no_dag(
    content: bytes | None, told: str, sandbox: Sandbox, path: Path, airflow_database: None
) -> None:
    """Every task of the accounts DAG begins with the error; the DAG files do not even look at the file."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FixFirst, match=told):
        _ = OpenFlow("default").rules
    bag = DagBag(DAGS, bundle_name="tests")
    assert not bag.import_errors
    assert "qadzd_sync_accounts" in bag.dags
