"""The edition of QAD is a property of the connection: a flow takes either, and nothing behind it can tell."""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any

import pytest

from airflow_provider_qadzd import config
from airflow_provider_qadzd.cli import columns
from airflow_provider_qadzd.doctor import examine_flow
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.hooks.qad import QadHook, QxtendHook, qad_hook
from airflow_provider_qadzd.operators.flow import OpenFlow
from airflow_provider_qadzd.provider_info import get_provider_info
from airflow_provider_qadzd.qad.qxtend_settings import PROFILES, QxtendSettings
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync.collect import collect
from tests.edge.conftest import qxtend_connection
from tests.edge.test_hooks import Recorded


@pytest.fixture
def qxtend(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The default flow reads QAD through QXtend; `qad_rest` is the same QAD over REST."""
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qxtend_connection(sandbox.url))
    return sandbox


def payloads(ledger_file: sqlite3.Connection) -> list[Any]:
    """What the ledger holds of customers and contacts."""
    rows = ledger_file.execute("SELECT kind, record_key, payload FROM qadzd_qad_record ORDER BY kind, record_key")
    return [(kind, key, json.loads(payload)) for kind, key, payload in rows]


def collected(flow: OpenFlow) -> list[tuple[str, int, bool]]:
    """One collection, as the DAG's first task does it."""
    reads = collect(flow.ledger, flow.flow.source_id, flow.qad.client, "run", flow.rules.mapping)
    return [(read.kind, read.rows, read.complete) for read in reads]


def test_a_flow_takes_the_edition_of_its_connection(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, ledger_file: sqlite3.Connection
) -> None:
    """The same customers, contacts and pairs in the ledger, whichever edition they were read from."""
    both = json.dumps([{"name": name, "qad": f"qad_{name}", "organization": f"{name}-{{code}}",
                        "user": f"{name}-{{contact}}"} for name in ("rest", "qxtend")])  # fmt: skip
    monkeypatch.setenv("AIRFLOW__QADZD__FLOWS", both)
    monkeypatch.setenv("AIRFLOW_CONN_QAD_REST", json.dumps(
        {"conn_type": "qad", "host": f"{sandbox.url}/clouderp", "login": "svc_zendesk", "password": "sandbox",
         "extra": {"client_id": "sandbox"}}))  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_QAD_QXTEND", qxtend_connection(sandbox.url))
    assert collected(OpenFlow("rest")) == collected(OpenFlow("qxtend")) == [
        ("customer", 40, True), ("contact", 121, True),
    ]  # fmt: skip
    found = payloads(ledger_file)
    assert len(found) == 2 * 160
    assert found[::2] == found[1::2]


def test_receiver_and_domain_are_the_source(qxtend: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that now names another domain is another source, and a flow that was set up says so."""
    _ = OpenFlow("default").flow
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qxtend_connection(qxtend.url, page_size=9))
    _ = OpenFlow("default").flow
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qxtend_connection(qxtend.url, domains="DEMO1"))
    with pytest.raises(FixFirst, match="set up with another source"):
        _ = OpenFlow("default").flow


def test_the_doctor_looks_at_qxtend_too(qxtend: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its check of QAD is the edition's own, and a flow that is not what it was is told with receiver and domain."""
    found = {one.check: one for one in examine_flow(config.flow_settings("default"))}
    assert found["QAD"].verdict == "ok", found["QAD"]
    assert "queryCustomerContact" in found["QAD"].what
    _ = OpenFlow("default").flow
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qxtend_connection(qxtend.url, domains="DEMO1"))
    found = {one.check: one for one in examine_flow(config.flow_settings("default"))}
    assert "QADERP/ became QADERP/DEMO1" in found["flow"].what


def test_columns_are_listed_for_a_mapping(qxtend: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """`airflow qadzd columns` lists elements as it lists columns of a browse."""

    class Given:
        flow = ""

    columns(Given())  # type: ignore[arg-type]
    told = capsys.readouterr().out
    assert "customer.cmType" in told
    assert "contact.ContactMobilePhone" in told


@pytest.mark.parametrize(("conn_type", "hook"), [("qad", QadHook), ("qad_qxtend", QxtendHook)], ids=["REST", "QXtend"])
def test_the_hook_is_that_of_the_connections_type(
    conn_type: str, hook: type, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the type alone."""
    monkeypatch.setenv("AIRFLOW_CONN_MINE", json.dumps({"conn_type": conn_type, "host": "https://x"}))
    assert type(qad_hook("mine")) is hook


def test_a_connection_of_another_type_is_refused(sandbox: Sandbox) -> None:
    """The error names the types that will do."""
    with pytest.raises(FixFirst, match=r"zendesk_default is of type 'zendesk_support'.*qad or qad_qxtend"):
        qad_hook("zendesk_default")


def test_without_the_extra_packages_the_way_out_is_told(qxtend: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where lxml is not installed, everything but the reading works, and the error says what to install."""
    for name in [name for name in sys.modules if name.startswith("airflow_provider_qadzd.qad.qxtend")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lxml", None)
    hook = QxtendHook("qad_default")
    assert hook.source_parts == ("QADERP/",)
    good, told = hook.test_connection()
    assert not good
    assert "package lxml" in told
    assert "airflow-provider-qadzd[qxtend]" in told


def test_an_unknown_extra_names_the_nearest(qxtend: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every connection."""
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qxtend_connection(qxtend.url, row_elemnt="x"))
    with pytest.raises(FixFirst, match="Did you mean 'row_element'"):
        _ = QxtendHook("qad_default").settings


def test_nothing_of_the_extra_becomes_a_header(qxtend: Sandbox) -> None:
    """A raw call is signed, and carries nothing else of the connection."""
    hook, kept = QxtendHook("qad_default"), Recorded()
    hook.method = "GET"
    hook.get_conn().mount("http://", kept)
    assert hook.run(None, data={"wsdl": ""}).status_code == 200
    names = {name.lower() for request in kept.sent for name in request.headers}
    assert names <= {"authorization", "user-agent", "accept", "accept-encoding", "connection"}
    with pytest.raises(FixFirst, match="outside its base URL"):
        hook.session.get(qxtend.url, timeout=5)
    hook.session.close()


def test_the_forms_fields_are_settings(sandbox: Sandbox) -> None:
    """What the form asks for, the connection takes, and the form offers every profile."""
    form = next(
        one["conn-fields"] for one in get_provider_info()["connection-types"] if one["connection-type"] == "qad_qxtend"
    )
    assert set(form) <= set(QxtendSettings.__dataclass_fields__)
    assert form["profile"]["schema"]["enum"] == [*PROFILES, None]
