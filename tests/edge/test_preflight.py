"""The preflight as people meet it: the command, the connection's test, and the first task of the accounts DAG."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_qadzd import cli
from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.hooks.qad import QadHook, qad_hook
from airflow_provider_qadzd.operators.accounts import (
    AccountsApplyOperator,
    AccountsPlanOperator,
    QadCollectOperator,
    ZendeskMirrorOperator,
)
from airflow_provider_qadzd.operators.links import LINKS
from airflow_provider_qadzd.operators.onboard import ZendeskOnboardOperator
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sandbox.qad_oddities import CONTACTS, CUSTOMERS
from tests.edge.conftest import qad_connection, qxtend_connection
from tests.edge.test_dags import NO_TEST_DELIVERY

OTHER_BROWSES = {"qad_browses": {CUSTOMERS: "urn:browse:mfg:xv001", CONTACTS: "urn:browse:mfg:xv002"}}


@pytest.fixture(autouse=True)
def log_again() -> Iterator[None]:
    """Commands switch logging off, for the rest of their process."""
    yield
    logging.disable(logging.NOTSET)


def screen(capsys: pytest.CaptureFixture[str], conn_id: str = "qad_default", as_json: bool = False) -> tuple[str, int]:
    """What `airflow qadzd preflight` prints, and how it exits."""
    try:
        cli.preflight(argparse.Namespace(conn_id=conn_id, json=as_json))
    except SystemExit as ended:
        return capsys.readouterr().out, int(str(ended.code))
    return capsys.readouterr().out, 0


def context(name: str) -> dict[str, Any]:
    """As much of a task's context as ours need."""

    class Dag:
        dag_id = name

    return {"dag": Dag(), "run_id": "run", "outlet_events": _Extras()}


class _Extras(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        class Event:
            extra: Any = None

        return self.setdefault(key, Event())


def test_a_healthy_connection_exits_with_0(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Every check is on the screen, the counts below, and that nothing has to be set."""
    told, code = screen(capsys)
    assert (code, "12 checks: 12 ok" in told, "can stay as it is" in told) == (0, True, True), told


def test_another_site_s_extra_can_be_pasted(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command fails on a site with browses of its own; with the extra that it prints, it passes."""
    sandbox.post_control("settings", OTHER_BROWSES)
    extra = {"customers_browse": "urn:browse:mfg:xv01", "contacts_browse": "urn:browse:mfg:xv02"}
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qad_connection(sandbox.url, **extra))
    told, code = screen(capsys)
    assert (code, "fail    customers: browse" in told) == (1, True), told
    pasted = json.loads(told.partition("first:\n")[2])
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qad_connection(sandbox.url, **pasted))
    told, code = screen(capsys)
    assert code == 0, told


def test_machines_get_json(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` has the findings, whether one failed, and the extra."""
    told = json.loads(screen(capsys, as_json=True)[0])
    assert (told["failed"], told["extra"], told["proposed"]) == (False, {"client_id": "sandbox"}, [])
    assert {one["verdict"] for one in told["findings"]} == {"ok"}


def test_the_other_edition_has_the_same_command(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A QXtend connection is looked at by the same name."""
    monkeypatch.setenv("AIRFLOW_CONN_QAD_SOAP", qxtend_connection(sandbox.url))
    told, code = screen(capsys, "qad_soap")
    assert (code, "Preflight of qad_soap" in told) == (0, True), told


def test_a_connection_of_another_type_is_refused(sandbox: Sandbox) -> None:
    """Zendesk's connection is no QAD, and the error says what would be."""
    with pytest.raises(FixFirst, match=r"zendesk_support.*qad"):
        qad_hook("zendesk_default")


def test_the_connection_s_test_says_what_to_do(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's button shows what failed with its advice, and of a good connection what is there."""
    good, told = QadHook().test_connection()
    assert (good, "QAD answers at" in told, "Later pages come" in told) == (True, True, True)
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qad_connection(sandbox.url, customers_browse="urn:browse:mfg:cm01"))
    good, told = QadHook().test_connection()
    assert (good, "urn:browse:mfg:cm010" in told) == (False, True)
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qad_connection(sandbox.url, paging="cursor"))
    assert QadHook().test_connection() == (
        False, "connection qad_default: paging 'cursor' is not known. Use one of action, number, one_page.",
    )  # fmt: skip


def test_the_first_task_names_the_nearest_match_and_reads_nothing(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, ledger_file: Any
) -> None:
    """A connection that does not fit is red before a page is read, and Airflow does not try again."""
    extra = {"contact_columns": {"email": "contact.ContactEMial"}}
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qad_connection(sandbox.url, **extra))
    with pytest.raises(FixFirst, match=r"contact\.ContactEmail.*airflow qadzd preflight qad_default"):
        QadCollectOperator(task_id="collect").execute(context("x"))
    assert ledger_file.execute("SELECT count(*) FROM qadzd_qad_read").fetchone() == (0,)


def test_a_qad_that_is_away_is_retried(sandbox: Sandbox) -> None:
    """The first task of a run is not red for good because QAD is down."""
    sandbox.post_control("settings", {"qad_answers": "away"})
    with pytest.raises(TryLater):
        QadCollectOperator(task_id="collect").execute(context("x"))


def test_tasks_link_to_both_systems_and_to_the_plan(sandbox: Sandbox, ledger_file: Any) -> None:
    """A task about one record links to it on both sides, one about many to the systems."""

    def links(operator: Any) -> dict[str, str]:
        return {link.name: link.get_link(operator, ti_key=None) for link in LINKS}

    def applied(run: str) -> dict[str, str]:
        for operator in (QadCollectOperator(task_id="collect"), ZendeskMirrorOperator(task_id="mirror")):
            operator.execute(context(run))
        plan = AccountsPlanOperator(task_id="plan", mode="apply", release_brake=True)
        planned = plan.execute(context(run))["plan_id"]
        apply = AccountsApplyOperator(task_id="apply", plan_id=planned)
        apply.execute(context(run))
        assert links(plan)["Plan"].endswith(f"/qadzd/plans/{planned}")
        return links(apply)

    ZendeskOnboardOperator(task_id="onboard", asked=NO_TEST_DELIVERY).execute(context("onboard"))
    first = applied("first")
    assert (first["Zendesk"], first["QAD"]) == (f"{sandbox.url}/agent", f"{sandbox.url}/clouderp")
    sandbox.post_control("customers", {"code": "C0000203", "city": "Elsewhere"})
    second = applied("second")
    asked = "SELECT zendesk_id FROM qadzd_link WHERE kind = 'organization' AND record_key = 'C0000203'"
    (organization,) = ledger_file.execute(asked).fetchone()
    assert second["Zendesk"] == f"{sandbox.url}/agent/organizations/{organization}"
    assert second["QAD"] == f"{sandbox.url}/clouderp/#/customers/C0000203"
    fields = {row["id"]: row for row in sandbox.get_control("state")["organizations"]}[organization][
        "organization_fields"
    ]
    assert fields["qad_orders"] == f"{sandbox.url}/clouderp/#/salesOrders?customerCode=C0000203"
    assert fields["qad_billing"] == f"{sandbox.url}/clouderp/#/customerInvoices?customerCode=C0000203"


def test_a_task_that_told_nothing_has_no_links(tmp_path: Path) -> None:
    """Before a task has run there is nothing to link to."""
    assert [link.get_link(QadCollectOperator(task_id="x"), ti_key=None) for link in LINKS] == ["", "", ""]
