"""The hooks over a real socket: what is sent, what is not, and what an error says."""

from __future__ import annotations

import json
import logging

import pytest
import requests

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.hooks.qad import QadHook
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.conftest import qad_connection, zendesk_connection


class Recorded(requests.adapters.HTTPAdapter):
    """Passes requests on and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        self.sent.append(request)
        return super().send(request, *args, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("system", ["qad", "zendesk"])
def test_nothing_of_the_extra_becomes_a_header(system: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A raw call carries the token and nothing else of the connection: HttpHook would send every extra as a header."""
    if system == "qad":
        monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qad_connection(sandbox.url, page_size=77))
        hook, path = QadHook(), "/api/webshell/workspaces"
    else:
        monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", zendesk_connection(sandbox.url, scope="read write"))
        hook, path = ZendeskHook(), "/api/v2/users/me"
    hook.method = "GET"
    kept = Recorded()
    hook.get_conn().mount("http://", kept)
    assert hook.run(path).status_code == 200
    names = {name.lower() for request in kept.sent for name in request.headers}
    assert names <= {
        "authorization", "user-agent", "accept", "accept-encoding", "connection", "content-type", "content-length",
    }  # fmt: skip


def test_one_token_serves_all_processes(sandbox: Sandbox) -> None:
    """A second hook finds the first one's token in the vault and does not ask for another."""
    ZendeskHook().client.users.me()
    ZendeskHook().client.users.me()
    assert sandbox.get_control("/_sandbox/stats")["calls"]["POST /oauth/tokens"] == 1


def test_wrong_credentials_fail_at_once_and_name_the_connection(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong secret is FixFirst with the connection's name, and is not repeated."""
    wrong = json.loads(zendesk_connection(sandbox.url)) | {"password": "not-the-secret-5"}
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", json.dumps(wrong))
    with pytest.raises(FixFirst, match="zendesk_default") as raised:
        _ = ZendeskHook().client.users.me()
    assert "not-the-secret-5" not in str(raised.value)
    assert sandbox.get_control("/_sandbox/stats")["calls"]["POST /oauth/tokens"] == 1
    wrong = json.loads(qad_connection(sandbox.url)) | {"password": "not-the-secret-6"}
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", json.dumps(wrong))
    with pytest.raises(FixFirst, match="qad_default") as raised:
        next(QadHook().client.customers())
    assert "not-the-secret-6" not in str(raised.value)


def test_a_missing_connection_is_named(sandbox: Sandbox) -> None:
    """A connection that does not exist is FixFirst with its name."""
    with pytest.raises(FixFirst, match="'nowhere'"):
        _ = QadHook("nowhere").client


@pytest.mark.parametrize(
    ("extra", "told"),
    [({"sope": "read"}, "Did you mean 'scope'"), ({"timeout": "soon"}, "must be a number")],
    ids=["an unknown name", "a wrong type"],
)
def test_an_extra_that_is_wrong_is_told(
    extra: dict[str, str], told: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown or ill-typed extra says where it stands and what is known."""
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", zendesk_connection(sandbox.url, **extra))
    with pytest.raises(FixFirst, match=told):
        _ = ZendeskHook().settings


def test_without_a_vault_key_nothing_is_written(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow without a Fernet key, and no key of our own: refused before anything is asked for."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    with pytest.raises(FixFirst, match="without a Fernet key"):
        _ = ZendeskHook().client.users.me()
    assert sandbox.get_control("/_sandbox/stats")["total"] == 0


def test_a_raw_call_keeps_retry_after(sandbox: Sandbox) -> None:
    """A 429 on a raw call is TryLater with the seconds that Zendesk told; HttpHook would lose them."""
    hook = ZendeskHook()
    hook.client.users.me()
    sandbox.post_control(
        "/_sandbox/faults", {"match": "GET /api/v2/users/me", "action": "status", "status": 429, "retry_after": "37"}
    )
    hook.method = "GET"
    with pytest.raises(TryLater) as raised:
        hook.run("/api/v2/users/me")
    assert raised.value.wait == 37


def test_sqlite_is_refused_where_tasks_run_elsewhere(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite ledger with an executor of many machines is FixFirst, naming the way out."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    with pytest.raises(FixFirst, match="qadzd_ledger"):
        config.open_ledger()


def test_no_secret_reaches_a_log(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """With everything logged at its finest, no password, client secret or token is in any line."""
    with caplog.at_level(logging.DEBUG):
        hook = ZendeskHook()
        hook.client.users.me()
        next(QadHook().client.customers())
    token = hook.token_source.access_token()
    for secret in (token, "Bearer ", "client_secret", "password="):
        assert secret not in caplog.text


@pytest.mark.parametrize("allowed", [False, True], ids=["refused", "allowed"])
def test_plain_http_to_another_machine_must_be_allowed(
    allowed: bool, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Zendesk over plain http is refused unless it is this machine or the connection says so."""
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", zendesk_connection("http://sandbox:8090", allow_http=allowed))
    if allowed:
        assert ZendeskHook().account.base_url == "http://sandbox:8090"
    else:
        with pytest.raises(FixFirst, match="not usable"):
            _ = ZendeskHook().account
