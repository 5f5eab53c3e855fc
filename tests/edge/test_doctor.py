"""`airflow qadzd doctor` and `rotate-keys`, and the connection's own test, in a real Airflow process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from airflow_provider_qadzd import config
from airflow_provider_qadzd.doctor import examine_flow
from airflow_provider_qadzd.findings import Finding
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets
from airflow_provider_qadzd.operators.flow import OpenFlow
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync.onboard import onboard
from tests.edge.conftest import qad_connection, zendesk_connection

AIRFLOW = Path(sys.executable).parent / "airflow"
CHECKS = (
    "keys", "ledger", "flow", "mapping file", "sealed secrets", "Zendesk address", "credentials", "role", "scopes",
    "clock", "rate limit", "bulk import", "same account", "our fields", "receiver address", "webhook", "signing secret",
    "triggers", "deliveries", "QAD", "mapped columns",
)  # fmt: skip


@pytest.fixture
def onboarded(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The default flow, onboarded, with a receiver that the internet could reach."""
    monkeypatch.setenv("AIRFLOW__QADZD__RECEIVER_URL", "https://hooks.example")
    hook = ZendeskHook()
    kept = Secrets(hook.ledger, config.receiver_vault(), hook.account.holder)
    onboard(hook.ledger, hook.account, hook.client, kept, config.option("receiver_url"))
    return sandbox


def examined(**more: Any) -> dict[str, Finding]:
    """The default flow's findings by check."""
    return {one.check: one for one in examine_flow(config.flow_settings("default"), **more)}


def failures(found: dict[str, Finding]) -> list[str]:
    """The checks that failed."""
    return [name for name, one in found.items() if one.verdict == "fail"]


def qadzd(*words: str) -> subprocess.CompletedProcess[str]:
    """An `airflow qadzd` command, as at a terminal."""
    command = [str(AIRFLOW), "qadzd", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_healthy_flow_leaves_with_zero(onboarded: Sandbox) -> None:
    """The command prints a line for each check, the counts last, and exits 0."""
    done = qadzd("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "21 checks: 21 ok, 0 warnings, 0 failures"
    told = [line for line in lines if line.startswith(("ok ", "warn", "fail", "skipped"))]
    assert [line[8:].split("  ")[0] for line in told] == list(CHECKS)


def test_a_broken_flow_leaves_with_one(onboarded: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON, with a wrong client secret: exit 1, the one failure, what to do, and no secret."""
    wrong = json.loads(os.environ["AIRFLOW_CONN_ZENDESK_DEFAULT"]) | {"login": "other", "password": "wrong-secret-4"}
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", json.dumps(wrong))
    done = qadzd("doctor", "--flow", "default", "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["failed"] is True
    [flow] = told["flows"]
    found = {one["check"]: one for one in flow["findings"]}
    assert [name for name, one in found.items() if one["verdict"] == "fail"] == ["credentials"]
    assert "zendesk_default" in found["credentials"]["what"]
    assert found["credentials"]["advice"]
    assert found["QAD"]["verdict"] == "ok"
    assert "wrong-secret-4" not in done.stdout + done.stderr


def test_an_unknown_flow_is_told(sandbox: Sandbox) -> None:
    """A flow that is not configured is an error that lists the known ones."""
    done = qadzd("doctor", "--flow", "nowhere")
    assert done.returncode == 1
    assert "Known: default" in done.stderr


def test_nothing_is_written_on_either_side(onboarded: Sandbox) -> None:
    """A doctor's visit is reading only: no write in Zendesk, and the flow is not made in the ledger."""
    onboarded.post_control("/_sandbox/reset-stats", {})
    found = examined()
    assert onboarded.get_control("/_sandbox/stats")["zendesk_writes"] == 0
    assert found["flow"].what == "Flow 'default' has not run yet."


@pytest.mark.parametrize(
    ("variable", "value", "check", "told"),
    [
        ("AIRFLOW__CORE__FERNET_KEY", "", "keys", "plain text"),
        ("QADZD_VAULT_KEYS", "short", "keys", "not a Fernet key"),
        ("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor", "ledger", "SQLite"),
        ("AIRFLOW__QADZD__RECEIVER_URL", "", "receiver address", "not set"),
        ("AIRFLOW_CONN_QAD_DEFAULT", qad_connection("http://127.0.0.1:1"), "QAD", "does not answer"),
        ("AIRFLOW_CONN_ZENDESK_DEFAULT", zendesk_connection("http://127.0.0.1:1"), "Zendesk address", "reached"),
        ("AIRFLOW_CONN_ZENDESK_DEFAULT", '{"conn_type": "zendesk_support"}', "Zendesk address", "not usable"),
    ],
    ids=[
        "no Fernet key",
        "a bad vault key",
        "SQLite on many machines",
        "no receiver",
        "no QAD",
        "no Zendesk",
        "no host",
    ],
)
def test_what_is_wrong_is_one_failure(
    variable: str, value: str, check: str, told: str, onboarded: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each broken part fails its own check alone; what rests on it is skipped."""
    monkeypatch.setenv(variable, value)
    found = examined()
    assert failures(found) == [check], found
    assert told in found[check].what
    assert found[check].advice or check == "QAD"


def test_errors_of_the_mapping_file_are_told(
    onboarded: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    """A bad mapping file is one failure with all its errors; what rests on it is skipped."""
    path = tmp_path / "map.yaml"
    path.write_text("organization:\n  tgas: [a]\nuser:\n  alias: '{nmae}'\n")
    monkeypatch.setenv("AIRFLOW__QADZD__MAPPING_PATH", str(path))
    found = examined()
    assert failures(found) == ["mapping file"]
    assert f"{path}, line 2: organization.tgas: 'tgas' is not a field" in found["mapping file"].what
    assert f"{path}, line 4: user.alias: 'nmae' is not a QAD field. Did you mean 'name'?" in found["mapping file"].what
    assert {name for name, one in found.items() if one.verdict == "skipped"} == {"our fields", "mapped columns"}


def test_what_the_mapping_names_must_be_there(
    onboarded: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    """A column that QAD lacks and a field that Zendesk lacks are failures that name them; right ones are not."""
    path = tmp_path / "map.yaml"
    monkeypatch.setenv("AIRFLOW__QADZD__MAPPING_PATH", str(path))
    path.write_text("user:\n  user_fields.mobile: '{contact.ContactMobil}'\n")
    found = examined()
    assert failures(found) == ["our fields", "mapped columns"]
    assert "user field mobile is missing" in found["our fields"].what
    assert "'contact.ContactMobil' (named in" in found["mapped columns"].what
    assert "contact.ContactMobilePhone)" in found["mapped columns"].what
    path.write_text("user:\n  alias: '{contact.ContactMobilePhone}'\n")
    found = examined()
    assert failures(found) == []
    assert "all 1 columns" in found["mapped columns"].what


def test_the_names_that_a_mapping_may_use_are_listed(sandbox: Sandbox) -> None:
    """`airflow qadzd columns` lists our fields and every column of both browses."""
    done = qadzd("columns")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fields: code, name, status" in done.stdout
    assert "\n    customerV2.customerTypeCode\n" in done.stdout
    assert "\n    contact.ContactMobilePhone\n" in done.stdout


def test_a_flow_that_was_moved_is_told(onboarded: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow whose connections mean something else than at its first run fails, naming what became what."""
    _ = OpenFlow("default").flow
    assert "as before" in examined()["flow"].what
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qad_connection(onboarded.url, workspaces="10_20,10_10"))
    found = examined()["flow"]
    assert found.verdict == "fail"
    assert "QAD workspaces: none became 10_10,10_20" in found.what


def test_a_lost_vault_key_is_told_and_an_older_one_is_rotated(
    onboarded: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the key the rows fail; with it as an older key they warn, and `rotate-keys` ends that."""
    new, old = Fernet.generate_key().decode(), os.environ["AIRFLOW__CORE__FERNET_KEY"]
    monkeypatch.setenv("QADZD_VAULT_KEYS", new)
    found = examined()
    assert "sealed secrets" in failures(found)
    assert SIGNING in found["sealed secrets"].what
    lost = qadzd("rotate-keys")
    assert lost.returncode == 1
    assert SIGNING in lost.stdout
    monkeypatch.setenv("QADZD_VAULT_KEYS", f"{new},{old}")
    found = examined()
    assert found["sealed secrets"].verdict == "warn"
    assert not failures(found)
    done = qadzd("rotate-keys")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Sealed anew with the newest key: " in done.stdout
    monkeypatch.setenv("QADZD_VAULT_KEYS", new)
    found = examined()
    assert found["sealed secrets"].verdict == "ok"
    assert not failures(found)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({}, "is an admin"),
        ({"scope": "read write impersonate"}, "impersonate"),
    ],
    ids=["as usual", "a wider scope"],
)
def test_a_connection_that_will_do(
    extra: dict[str, str], told: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's test of a good connection says where it leads, whom it is, and what the token may do."""
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", zendesk_connection(sandbox.url, **extra))
    good, text = ZendeskHook().test_connection()
    assert good, text
    assert told in text
    assert sandbox.url in text


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"scope": "read"}, "lacks users:write"),
        ({"scope": "reed"}, "'reed'"),
        ({"sope": "read"}, "Did you mean 'scope'"),
    ],
    ids=["too narrow", "misspelt", "an unknown extra"],
)
def test_a_connection_that_will_not_do(
    extra: dict[str, str], told: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's test of a bad connection says what to correct."""
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", zendesk_connection(sandbox.url, **extra))
    good, text = ZendeskHook().test_connection()
    assert not good
    assert told in text


def test_a_connection_that_cannot_be_tested_now_is_not_called_good(sandbox: Sandbox) -> None:
    """While Zendesk's limit is used up nothing is claimed of the credentials."""
    hook = ZendeskHook()
    hook.client.users.me()
    fault = {"match": "GET /api/v2/users/me", "status": 429, "retry_after": "90", "times": None}
    sandbox.post_control("/_sandbox/faults", fault)
    good, text = ZendeskHook().test_connection()
    assert not good
    assert "rate limit is used up" in text
