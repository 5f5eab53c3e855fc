"""Every DAG of this package, run for real by `dag.test()` against the sandbox and a fresh ledger."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from sqlalchemy import select

from airflow_provider_qadzd import config
from airflow_provider_qadzd.hooks.qad import QadHook
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.schema import credential
from airflow_provider_qadzd.ledger.vault import Secrets
from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.conftest import qad_connection, qxtend_connection

pytestmark = pytest.mark.usefixtures("airflow_database")
DAGS = Path(__file__).parents[2] / "dags"
NAMES = {
    "qadzd_sync_accounts",
    "qadzd_full_read",
    "qadzd_export_tickets",
    "qadzd_ticket_history",
    "qadzd_ticket_events",
    "qadzd_onboard",
    "qadzd_replay",
    "qadzd_maintain",
    "qadzd_reconcile",
}

NO_TEST_DELIVERY = {"test_delivery": False}
"""Onboards without a receiver."""


@pytest.fixture(scope="session")
def dags(airflow_database: None) -> dict[str, DAG]:
    """The DAGs as Airflow parses them, known to its database as a scheduler would make them."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    bag = DagBag(DAGS, bundle_name="tests")
    assert bag.import_errors == {}
    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
        session.commit()
        from airflow.dag_processing.collection import update_dag_parsing_results_in_db

        update_dag_parsing_results_in_db(
            bundle_name="tests", bundle_version=None,
            dags=[LazyDeserializedDAG.from_dag(dag) for dag in bag.dags.values()],
            import_errors={}, parse_duration=None, warnings=set(), session=session,
        )  # fmt: skip
    return bag.dags


def run(dag: DAG, **given: Any) -> Any:
    """One run of a DAG, to its end, parsed anew as a worker does.

    `dag.test` leaves what a run was given in the params of the tasks, where the next run of the same object would
    start from it (Airflow 3.3.2; seen as a run that was still dry after a dry one).
    """
    result = DagBag(dag.fileloc, bundle_name="tests").dags[dag.dag_id].test(**given)
    assert {task.task_id: task.state for task in result.get_task_instances()} == dict.fromkeys(dag.task_ids, "success")
    return result


def returned(result: Any, task_id: str) -> Any:
    """What a task returned."""
    return next(task for task in result.get_task_instances() if task.task_id == task_id).xcom_pull(task_ids=task_id)


def test_every_dag_is_parsed(dags: dict[str, DAG]) -> None:
    """All DAGs parse, each with documentation, one active run and no catch-up."""
    assert set(dags) == NAMES
    for dag in dags.values():
        assert "When red" in (dag.doc_md or "")
        assert dag.max_active_runs == 1
        assert dag.catchup is False


@pytest.mark.parametrize("qad", [qad_connection, qxtend_connection], ids=["REST", "QXtend"])
def test_accounts_arrive_and_a_second_run_writes_nothing(
    qad: Callable[[str], str], dags: dict[str, DAG], sandbox: Sandbox, ledger_file: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One run puts every customer and contact into Zendesk; the next makes not one write."""
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qad(sandbox.url))
    run(dags["qadzd_onboard"], run_conf=NO_TEST_DELIVERY)
    result = run(dags["qadzd_sync_accounts"])
    assert returned(result, "apply")["outcomes"]["organization"] == {"created": 39, "adopted": 1}
    state = sandbox.get_control("/_sandbox/state")
    assert sum(bool(one["external_id"]) for one in state["organizations"]) == 40
    writes = sandbox.get_control("/_sandbox/stats")["zendesk_writes"]
    again = run(dags["qadzd_sync_accounts"])
    assert returned(again, "apply") == {"outcomes": {}, "zendesk_writes": 0, "tickets_matched_again": 0}
    assert sandbox.get_control("/_sandbox/stats")["zendesk_writes"] == writes
    linked = ledger_file.execute("SELECT count(*) FROM qadzd_link WHERE kind = 'organization'").fetchone()
    assert linked == (40,)


def test_the_nightly_read_is_full_and_the_others_are_deltas(dags: dict[str, DAG], sandbox: Sandbox) -> None:
    """After a complete full read an ordinary run reads what was changed; the nightly DAG, and `full`, read it all."""
    first = returned(run(dags["qadzd_sync_accounts"], run_conf={"mode": "dry_run"}), "collect")
    second = returned(run(dags["qadzd_sync_accounts"], run_conf={"mode": "dry_run"}), "collect")
    asked = returned(run(dags["qadzd_sync_accounts"], run_conf={"mode": "dry_run", "full": True}), "collect")
    nightly = returned(run(dags["qadzd_full_read"]), "collect")
    assert [one["customer"]["mode"] for one in (first, second, asked, nightly)] == ["full", "delta", "full", "full"]
    assert (nightly["customer"]["rows"], nightly["customer"]["complete"]) == (40, True)


def test_a_dry_run_plans_and_sends_nothing(dags: dict[str, DAG], sandbox: Sandbox) -> None:
    """With `mode` dry_run the plan is made and shown, and Zendesk stays as it is."""
    result = run(dags["qadzd_sync_accounts"], run_conf={"mode": "dry_run"})
    assert returned(result, "plan")["changes"] > 150
    assert sandbox.get_control("/_sandbox/stats")["zendesk_writes"] == 0


def test_live_export_and_history_meet_in_the_ledger(
    dags: dict[str, DAG], sandbox: Sandbox, ledger_file: sqlite3.Connection
) -> None:
    """The live export brings the day's tickets, a history run those of its interval; none comes twice."""
    run(dags["qadzd_onboard"], run_conf=NO_TEST_DELIVERY)
    run(dags["qadzd_export_tickets"])
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    result = run(dags["qadzd_ticket_history"], logical_date=today)
    window = returned(result, "export")
    yesterday = today - timedelta(days=1)
    assert window["starts_at"].startswith(yesterday.date().isoformat())
    there = {
        one["id"]
        for one in sandbox.get_control("/_sandbox/state")["tickets"]
        if yesterday.timestamp() <= one["generated_timestamp"] < today.timestamp()
    }
    stored = {row[0] for row in ledger_file.execute("SELECT ticket_id FROM qadzd_ticket")}
    assert window["tickets"] == len(there) > 0
    assert there <= stored


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_window_is_also_a_file(
    dags: dict[str, DAG], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """With `[qadzd] history_files` each window is one file there, which a run of the same window replaces."""
    monkeypatch.setenv("AIRFLOW__QADZD__HISTORY_FILES", f"file://{tmp_path}/export")
    monkeypatch.setenv("AIRFLOW__QADZD__HISTORY_FORMAT", form)
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    first = returned(run(dags["qadzd_ticket_history"], logical_date=today), "export")
    (written,) = [path for path in (tmp_path / "export").rglob("*") if path.is_file()]
    assert first["file"].endswith(str(written))
    assert written.suffix == f".{form}"
    before = written.read_bytes()
    written.write_bytes(b"older")
    again = dags["qadzd_ticket_history"]
    run(again, logical_date=today + timedelta(seconds=1))
    assert [path for path in (tmp_path / "export").rglob("*") if path.is_file()] == [written]
    assert written.read_bytes() == before


def test_missing_organizations_are_set_where_it_is_allowed(
    dags: dict[str, DAG], sandbox: Sandbox, ledger_file: sqlite3.Connection
) -> None:
    """The export's second task writes nothing until it is allowed; then it names the triggers, and sets them."""
    trigger = {"title": "Any update", "conditions": {"all": [{"field": "update_type", "value": "Change"}]}}
    client = ZendeskHook().client
    client.triggers.create({**trigger, "actions": [{"field": "priority", "value": "high"}]})
    run(dags["qadzd_onboard"], run_conf=NO_TEST_DELIVERY)
    run(dags["qadzd_sync_accounts"])
    (email,) = ledger_file.execute(
        "SELECT email_folded FROM qadzd_mirror JOIN qadzd_link USING (account_id, kind, zendesk_id)"
        " WHERE kind = 'user' AND email_folded <> '' LIMIT 1"
    ).fetchone()
    ticket = sandbox.post_control("/_sandbox/tickets", {"requester_email": email})["ticket"]
    sandbox.post_control("/_sandbox/tickets", {"id": ticket["id"], "organization_id": None})
    sandbox.post_control("/_sandbox/clock", {"advance": 600})
    export = dags["qadzd_export_tickets"]
    assert returned(run(export), "organizations") == {}
    ledger_file.execute("UPDATE qadzd_account SET set_ticket_organization = true")
    ledger_file.commit()
    homeless = (
        "SELECT count(*) FROM qadzd_ticket WHERE organization_id IS NULL AND match_reason = 'requester'"
        " AND status IN ('new', 'open', 'pending', 'hold')"
    )
    (count,) = ledger_file.execute(homeless).fetchone()
    done = returned(run(export), "organizations")
    assert done == {"organizations": {"set": count}, "zendesk_writes": 1, "triggers": ["Any update"]}
    assert count > 0
    assert returned(run(export), "organizations") == {"organizations": {}, "zendesk_writes": 0, "triggers": []}


def test_a_ticket_event_is_drained(dags: dict[str, DAG], sandbox: Sandbox, ledger_file: sqlite3.Connection) -> None:
    """What a delivery announced is fetched, matched and numbered for the sensor, and its body is forgotten."""
    run(dags["qadzd_onboard"], run_conf=NO_TEST_DELIVERY)
    run(dags["qadzd_sync_accounts"])
    ticket = sandbox.get_control("/_sandbox/state")["tickets"][0]["id"]
    ledger_file.execute(
        "INSERT INTO qadzd_inbox (account_id, signature, body, kind, ticket_id, occurred_at, received_at, inbox_state,"
        " reason) VALUES (1, 's', x'7b7d', 'solved', ?, '', '2026-01-01T00:00:00.000Z', 'pending', '')",
        [ticket],
    )
    ledger_file.commit()
    result = run(dags["qadzd_ticket_events"])
    assert returned(result, "drain") == {"drained": 1, "aside": 0, "moved": 1, "gone": 0}
    assert ledger_file.execute("SELECT inbox_state, body FROM qadzd_inbox").fetchall() == [("drained", None)]
    assert ledger_file.execute("SELECT ticket_id, kind, found_by FROM qadzd_ticket_event").fetchall()[-1] == (
        ticket, "solved", "webhook",
    )  # fmt: skip


def qad_tokens(ledger: Ledger, tokens: Secrets) -> list[str]:
    """The access tokens that the vault holds for the QAD instance."""
    with ledger.reading() as tx:
        names = tx.execute(select(credential.c.credential_name).where(credential.c.holder == tokens.holder)).scalars()
        found = [tokens.read(name) for name in list(names)]
    return [token.access for token in found if token is not None]


def test_no_secret_is_left_anywhere(
    dags: dict[str, DAG], sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    """After every DAG has run with everything logged, no token and no signing secret is in a log, an XCom or a file."""
    with caplog.at_level(logging.DEBUG):
        for name in ("qadzd_onboard", "qadzd_sync_accounts", "qadzd_export_tickets", "qadzd_ticket_events"):
            run(dags[name], run_conf=NO_TEST_DELIVERY if name == "qadzd_onboard" else None)
    qad = QadHook()
    tokens = Secrets(qad.ledger, config.vault(), f"source:{qad.source_id}")
    secrets = [ZendeskHook().token_source.access_token(), *qad_tokens(qad.ledger, tokens)]
    secrets += [webhook["signing_secret"] for webhook in sandbox.get_control("/_sandbox/state")["webhooks"]]
    assert len(set(secrets)) == 3
    said = caplog.text + "".join(capfd.readouterr())
    files = [path for folder in (tmp_path, Path(os.environ["AIRFLOW_HOME"])) for path in folder.rglob("*")]
    kept = b"".join(path.read_bytes() for path in files if path.is_file())
    for secret in secrets:
        assert secret not in said
        assert secret.encode() not in kept
