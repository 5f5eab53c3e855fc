"""A real Airflow for the edge's tests: its own home, a migrated SQLite database, connections to a sandbox by variables.

Airflow reads its settings when it is imported, so the environment is set here, before any test module imports it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

REPOSITORY = Path(__file__).parents[2]
HOME = Path(tempfile.mkdtemp(prefix="qadzd-airflow-"))
SECRETS = {"qad": "qad-password-7Kq1", "zendesk": "zendesk-secret-9Xw2"}

os.environ.update(
    {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
        "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 80,
        "AIRFLOW__QADZD__RECEIVER_URL": "http://127.0.0.1:9",
        "AIRFLOW__QADZD__WAIT_IN_PLACE_SECONDS": "20",
    }
)
os.environ.pop("QADZD_LEDGER_URL", None)
os.environ.pop("QADZD_VAULT_KEYS", None)

from airflow_provider_qadzd.sandbox import Sandbox, running  # noqa: E402 - after the environment


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's own tables, made once."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(scope="session")
def one_sandbox() -> Iterator[Sandbox]:
    """One server for the session; `sandbox` gives it back clean to every test."""
    with running(customers=40, contacts=120, tickets=200, seed=7) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(one_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sandbox:
    """A fresh sandbox, connections to it, and a fresh ledger."""
    one_sandbox.post_control("/_sandbox/reset", {})
    monkeypatch.setenv("QADZD_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qad_connection(one_sandbox.url))
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", zendesk_connection(one_sandbox.url))
    return one_sandbox


@pytest.fixture
def ledger_file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The ledger of `sandbox`, read without our code."""
    connection = sqlite3.connect(tmp_path / "ledger.db")
    yield connection
    connection.close()


def qad_connection(url: str, **extra: object) -> str:
    """A QAD connection as Airflow reads it from a variable."""
    return json.dumps(
        {
            "conn_type": "qad",
            "host": f"{url}/clouderp",
            "login": "svc_zendesk",
            "password": "sandbox",
            "extra": {"client_id": "sandbox", **extra},
        }
    )


def qxtend_connection(url: str, **extra: object) -> str:
    """A QXtend connection as Airflow reads it from a variable."""
    return json.dumps(
        {
            "conn_type": "qad_qxtend",
            "host": f"{url}/qxi/services/QdocWebService",
            "login": "svc_zendesk",
            "password": "sandbox",
            "extra": {"receiver": "QADERP", **extra},
        }
    )


def zendesk_connection(url: str, **extra: object) -> str:
    """A Zendesk connection as Airflow reads it from a variable."""
    return json.dumps(
        {"conn_type": "zendesk_support", "host": url, "login": "sandbox", "password": "sandbox", "extra": extra}
    )
