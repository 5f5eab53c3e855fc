"""The nightly look and the commands about drift, in a real Airflow process against the sandbox."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.operators.flow import OpenFlow
from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.conftest import zendesk_connection
from tests.edge.test_dags import NO_TEST_DELIVERY, dags, returned, run

__all__ = ["dags"]

pytestmark = pytest.mark.usefixtures("airflow_database")
AIRFLOW = Path(sys.executable).parent / "airflow"


def qadzd(*words: str) -> subprocess.CompletedProcess[str]:
    """An `airflow qadzd` command, as at a terminal."""
    return subprocess.run(
        [str(AIRFLOW), "qadzd", *words], capture_output=True, text=True, timeout=180, check=False
    )  # fmt: skip


def organizations(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    """Zendesk's organizations by external id."""
    there = sandbox.get_control("state")["organizations"]
    return {row["external_id"]: row for row in there if row["external_id"]}


@pytest.fixture
def synced(dags: dict[str, DAG], sandbox: Sandbox) -> Sandbox:
    """After onboarding and a first run, with one name edited by hand; the export's withheld minutes are over."""
    run(dags["qadzd_onboard"], run_conf=NO_TEST_DELIVERY)
    run(dags["qadzd_sync_accounts"])
    found = organizations(sandbox)["C0000202"]["id"]
    OpenFlow("default").zendesk.client.organizations.update(found, {"name": "Nobody's name"})
    sandbox.post_control("clock", {"advance": 200})
    return sandbox


def test_a_look_tells_and_leaves_and_a_repair_puts_right(dags: dict[str, DAG], synced: Sandbox) -> None:
    """Without `repair` the DAG only tells, in its return value; with it, the usual plan puts the name right."""
    result = dags["qadzd_reconcile"].test()
    states = {task.task_id: task.state for task in result.get_task_instances()}
    assert states == {"look": "success", "repair": "skipped", "plan": "skipped", "apply": "skipped"}
    assert returned(result, "look")["standing"] == {"edited": 1}
    assert organizations(synced)["C0000202"]["name"] == "Nobody's name"
    result = run(dags["qadzd_reconcile"], run_conf={"repair": True})
    assert returned(result, "apply")["outcomes"] == {"organization": {"updated": 1}}
    assert organizations(synced)["C0000202"]["name"] == "Åkesson Verktyg AB"


def test_drift_at_a_terminal(synced: Sandbox) -> None:
    """`airflow qadzd drift` shows what the last look found; `--now` looks first; `--json` is for machines."""
    assert qadzd("drift").stdout == "Flow default: no difference stands\n"
    shown = qadzd("drift", "--now")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    found = organizations(synced)["C0000202"]["id"]
    told = "name is \"Nobody's name\", we want 'Åkesson Verktyg AB'"
    assert shown.stdout == f"Flow default: 1 edited\nedited  organization  C0000202  {found}  {told}\n"
    rows = json.loads(qadzd("drift", "--json").stdout)["default"]
    assert [(row["what"], row["record_key"]) for row in rows] == [("edited", "C0000202")]


def test_a_ledger_is_rebuilt_at_a_terminal(
    dags: dict[str, DAG], synced: Sandbox, ledger_file: sqlite3.Connection, tmp_path: Path
) -> None:
    """`airflow qadzd ledger rebuild` links a new ledger; the next run writes nothing but the true difference."""
    before = set(ledger_file.execute("SELECT kind, record_key, other_key FROM qadzd_link"))
    config.unopened_ledger().engine.dispose()
    for path in tmp_path.glob("ledger.db*"):
        path.unlink()
    done = qadzd("ledger", "rebuild")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 organization, 118 user" in done.stdout
    anew = sqlite3.connect(tmp_path / "ledger.db")
    assert set(anew.execute("SELECT kind, record_key, other_key FROM qadzd_link")) == before
    anew.close()
    result = run(dags["qadzd_sync_accounts"])
    assert returned(result, "apply")["outcomes"] == {"organization": {"updated": 1}}


def test_a_flow_of_other_templates_is_rekeyed_at_a_terminal(
    dags: dict[str, DAG], synced: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are refused with the way out; rekey tells what it would do, does it when asked, and runs go on."""
    flows = [{"name": "default", "organization": "eu-{code}"}]
    monkeypatch.setenv("AIRFLOW__QADZD__FLOWS", json.dumps(flows))
    with pytest.raises(FixFirst, match="airflow qadzd rekey --flow default"):
        _ = OpenFlow("default").flow
    before = organizations(synced)
    told = qadzd("rekey")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "40 linked organizations stay linked" in told.stdout
    assert "Nothing was done." in told.stdout
    assert "Done." in qadzd("rekey", "--flow", "default", "--yes").stdout
    result = run(dags["qadzd_sync_accounts"], run_conf={"release_brake": True})
    assert returned(result, "apply")["outcomes"] == {"organization": {"updated": 40}}
    after = organizations(synced)
    assert {key: row["id"] for key, row in after.items()} == {f"eu-{key}": row["id"] for key, row in before.items()}


def test_nothing_runs_into_another_account(
    dags: dict[str, DAG], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Zendesk connection that means another account stops tickets and onboarding as well as accounts."""
    assert OpenFlow("default").flow.name == "default"
    elsewhere = zendesk_connection(sandbox.url.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", elsewhere)
    for dag_id in ("qadzd_export_tickets", "qadzd_onboard"):
        result = dags[dag_id].test()
        assert {task.state for task in result.get_task_instances()} - {"upstream_failed"} == {"failed"}
    assert sandbox.get_control("stats")["calls"] == {}
