"""What Airflow finds of this package when it is merely installed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.configuration import conf
from airflow.sdk import Connection
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.hooks.qad import QadHook
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.provider_info import get_provider_info
from airflow_provider_qadzd.sandbox import Sandbox

AIRFLOW = Path(sys.executable).parent / "airflow"


def airflow(*words: str) -> str:
    """What an `airflow` command prints; it must succeed."""
    done = subprocess.run([AIRFLOW, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("conn_type", "hook"),
    [("qad", "QadHook"), ("qad_qxtend", "QxtendHook"), ("zendesk_support", "ZendeskHook")],
    ids=["qad", "qxtend", "zendesk"],
)
def test_connection_types_have_hooks_and_forms(conn_type: str, hook: str) -> None:
    """Each connection type brings its hook and the fields of its form."""
    manager = ProvidersManagerTaskRuntime()
    found = manager.hooks[conn_type]
    assert found is not None
    assert found.hook_class_name.endswith(f".{hook}")
    assert Connection(conn_type=conn_type, conn_id="x").get_hook().conn_type == conn_type
    fields = {one["connection-type"]: one["conn-fields"] for one in get_provider_info()["connection-types"]}
    assert "auth" in fields[conn_type]


def test_provider_info_names_only_what_exists() -> None:
    """Every module and class that the provider's information names can be imported."""
    info = get_provider_info()
    for part in ("hooks", "operators", "sensors", "triggers"):
        for entry in info[part]:
            for module in entry["python-modules"]:
                importlib.import_module(module)


def test_every_option_has_a_default_in_airflow_configuration() -> None:
    """Each `[qadzd]` option can be read without being set, and the default flow joins the two default connections."""
    for name, option in get_provider_info()["config"]["qadzd"]["options"].items():
        assert conf.get("qadzd", name) is not None
        assert option["description"]
    assert [(flow.qad, flow.zendesk) for flow in config.flows()] == [("qad_default", "zendesk_default")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "not JSON"),
        ("{}", "JSON list"),
        ('[{"nam": "x"}]', "Did you mean 'name'"),
        ('[{"name": "a"}, {"name": "a"}]', "twice"),
    ],
    ids=["not json", "an object", "a misspelt name", "one name twice"],
)
def test_flows_that_cannot_be_read_are_told(text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `[qadzd] flows` that is wrong says what is wrong with it."""
    monkeypatch.setenv("AIRFLOW__QADZD__FLOWS", text)
    with pytest.raises(FixFirst, match=told):
        config.flows()


def test_plugin_and_cli_are_seen(airflow_database: None) -> None:
    """`airflow plugins` shows the receiver and `airflow qadzd` its commands."""
    assert "qadzd" in airflow("plugins", "--output", "json")
    help_text = airflow("qadzd", "--help")
    for command in ("ledger", "receiver", "connect", "dags", "new-key"):
        assert command in help_text


def test_dags_are_copied_and_a_changed_copy_is_kept(tmp_path: Path) -> None:
    """`airflow qadzd dags --to` copies each DAG file once, and does not overwrite one that was changed."""
    airflow("qadzd", "dags", "--to", str(tmp_path))
    copies = sorted(tmp_path.glob("qadzd_*.py"))
    assert len(copies) == 9
    copies[0].write_text("changed")
    again = subprocess.run(
        [AIRFLOW, "qadzd", "dags", "--to", str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert again.returncode != 0
    assert "is there and differs" in again.stderr
    assert copies[0].read_text() == "changed"


def test_a_connection_answers_its_test(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_connection` says whom Zendesk knows us as, and names the connection when it does not."""
    good, told = ZendeskHook().test_connection()
    assert good, told
    assert "admin" in told
    good, told = QadHook().test_connection()
    assert good, told
    wrong = json.loads(os.environ["AIRFLOW_CONN_ZENDESK_DEFAULT"]) | {"password": "wrong-secret-3"}
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_OTHER", json.dumps(wrong | {"login": "other"}))
    good, told = ZendeskHook("zendesk_other").test_connection()
    assert not good
    assert "zendesk_other" in told
    assert "wrong-secret-3" not in told
