"""Onboarding by its DAG's form and by the command: one does what the other does, and says so."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from airflow.sdk import DAG
from starlette.applications import Starlette
from starlette.routing import Mount

from airflow_provider_qadzd import config
from airflow_provider_qadzd.plugin.receiver import receiver_app
from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.test_dags import dags, returned, run  # noqa: F401 - a fixture
from tests.edge.test_doctor import qadzd
from tests.serving import served

pytestmark = pytest.mark.usefixtures("airflow_database")


@pytest.fixture
def receiver(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A receiver with this test's ledger, where `[qadzd] receiver_url` says."""
    app = Starlette(routes=[Mount("/qadzd", receiver_app(config.open_ledger, config.receiver_vault))])
    with served(app) as url:
        monkeypatch.setenv("AIRFLOW__QADZD__RECEIVER_URL", url)
        yield url


def test_the_form_onboards_and_undoes_it(dags: dict[str, DAG], sandbox: Sandbox, receiver: str) -> None:  # noqa: F811
    """As the form stands, all is made and a test delivery arrives; other choices change the route, or remove it."""
    done = returned(run(dags["qadzd_onboard"]), "onboard")
    assert (done["route"], done["endpoint"].startswith(receiver)) == ("events", True)
    assert done["steps"][-1].startswith("tested Zendesk's test delivery arrived")
    again = returned(run(dags["qadzd_onboard"], run_conf={"route": "triggers"}), "onboard")
    assert (again["route"], again["webhook_id"] != done["webhook_id"]) == ("triggers", True)
    assert len(sandbox.get_control("/_sandbox/state")["triggers"]) == 3
    run(dags["qadzd_onboard"], run_conf={"remove": True, "remove_fields": True})
    there = sandbox.get_control("/_sandbox/state")
    assert (there["webhooks"], there["triggers"]) == ([], [])
    assert not [row for row in there["user_fields"] if row["key"].startswith("qad_")]


def test_the_command_onboards_and_undoes_it(sandbox: Sandbox, receiver: str) -> None:
    """Each step is a line, and what is left for an admin stands at the end; no secret is printed."""
    done = qadzd("onboard", "--route", "triggers", "--set-ticket-organization", "yes")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "made      trigger 'QAD ticket solved'" in lines
    assert any(line.startswith("tested    Zendesk's test delivery arrived") for line in lines)
    assert lines[lines.index("An admin must still:") + 1].startswith("  - ")
    (webhook,) = sandbox.get_control("/_sandbox/state")["webhooks"]
    assert webhook["signing_secret"] not in done.stdout + done.stderr
    again = qadzd("onboard", "--no-test")
    assert "Nothing to do;" in again.stdout
    removed = qadzd("onboard", "--remove")
    assert "4 removed" in removed.stdout or "5 removed" in removed.stdout
    assert sandbox.get_control("/_sandbox/state")["webhooks"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--flow", "other"), "There is no flow 'other'"),
        (("--receiver-url", "http://127.0.0.1:9"), "was answered by nobody"),
    ],
    ids=["an unknown flow", "a receiver that nobody reaches"],
)
def test_the_command_says_what_is_wrong(sandbox: Sandbox, words: tuple[str, ...], told: str) -> None:
    """One line that says what is wrong and what to do, and no traceback."""
    done = qadzd("onboard", *words)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_form_refuses_what_is_not_in_it(dags: dict[str, DAG]) -> None:  # noqa: F811
    """The route is one of the three that the form offers."""
    schema = dags["qadzd_onboard"].params.get_param("route").schema
    assert schema["enum"] == ["as it is", "events", "triggers"]
    assert json.dumps(dags["qadzd_onboard"].params.dump())
