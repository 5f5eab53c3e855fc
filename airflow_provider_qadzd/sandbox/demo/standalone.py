"""Runs `airflow standalone` on chosen ports, with a home of its own, and talks to its REST API.

Nothing of another Airflow reaches in: every AIRFLOW variable of the surroundings is left out. SIGINT is what standalone
ends cleanly on.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from .processes import Failed, Progress, Service

USER = "admin"
PARTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
DAGS = ("qadzd_onboard", "qadzd_sync_accounts", "qadzd_export_tickets", "qadzd_ticket_history", "qadzd_ticket_events")


@dataclass(frozen=True)
class Place:
    """Where the demo's Airflow lives: folders, ports, and the password of its one user."""

    folder: Path
    dags: Path
    api_port: int
    worker_log_port: int
    trigger_log_port: int
    password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)

    @property
    def home(self) -> Path:
        return self.folder / "airflow"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def ledger(self) -> Path:
        return self.home / "qadzd" / "ledger.db"


def clean_environment() -> dict[str, str]:
    """The surroundings without any Airflow settings, and without a proxy for what stays on this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW", "QADZD"))}
    # Without bytecode on disk every process of Airflow compiles everything again.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    local = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1,localhost"]))
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {**kept, "PATH": path, "NO_PROXY": local, "no_proxy": local, "PYTHONUNBUFFERED": "1"}


def airflow_environment(place: Place, more: Mapping[str, str]) -> dict[str, str]:
    """Everything that the demo's Airflow is told."""
    settings = {
        "CORE__DAGS_FOLDER": str(place.dags),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(place.home / "passwords.json"),
        "CORE__EXECUTION_API_SERVER_URL": f"{place.url}/execution/",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(place.api_port),
        "API__BASE_URL": place.url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": secrets.token_urlsafe(48),
        "API_AUTH__JWT_SECRET": secrets.token_urlsafe(60),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(place.worker_log_port),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(place.trigger_log_port),
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
    }
    told = {f"AIRFLOW__{name}": value for name, value in settings.items()}
    return {**clean_environment(), "AIRFLOW_HOME": str(place.home), **told, **more}


class Airflow:
    """The demo's Airflow: started, asked over its REST API, and stopped."""

    def __init__(self, place: Place, environment: Mapping[str, str], progress: Progress) -> None:
        self.place, self.environment, self.progress = place, environment, progress
        command = [str(Path(sys.executable).parent / "airflow"), "standalone"]
        self.service = Service("Airflow", command, environment, place.folder / "airflow.log", signal.SIGINT)
        self._session = requests.Session()
        self._session.trust_env = False

    def start(self) -> None:
        """Start it; the user's password is set beforehand, so that nobody has to look for it in a log."""
        self.place.home.mkdir(parents=True)
        (self.place.home / "passwords.json").write_text(json.dumps({USER: self.place.password}))
        self.service.start()
        self.progress.watch(self.service)

    def wait_until_ready(self) -> None:
        """Wait until all four parts are healthy and our DAGs are listed."""
        self.progress.until("Airflow to be healthy", self._health, 240)
        self.progress.until("the DAGs to be read", self._listed, 120)

    def stop(self) -> None:
        """End it and all that it started."""
        self._session.close()
        self.service.stop()

    def _health(self) -> tuple[bool | None, str]:
        try:
            parts = self._session.get(f"{self.place.url}/api/v2/monitor/health", timeout=10).json()
        except (requests.RequestException, ValueError):
            return None, "its API does not answer yet"
        missing = [name for name in PARTS if (parts.get(name) or {}).get("status") != "healthy"]
        return (None, f"{', '.join(missing)} to come") if missing else (True, "")

    def _listed(self) -> tuple[bool | None, str]:
        known = {row["dag_id"] for row in self.call("GET", "/dags")["dags"]}
        missing = [name for name in DAGS if name not in known]
        if not missing:
            return True, ""
        broken = self.call("GET", "/importErrors")["import_errors"]
        if broken:
            told = "\n".join(f"{row['filename']}:\n{row['stack_trace']}" for row in broken)
            raise Failed(f"Airflow cannot import a DAG file.\n{told}")
        return None, f"{', '.join(missing)} to come"

    # -- REST ----------------------------------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None, *, also: int = 200
    ) -> Any:  # fmt: skip
        """One call below /api/v2, repeated a little while SQLite is busy. Status `also` is well too, and gives None."""
        for attempt in range(5):
            if "Authorization" not in self._session.headers or attempt:
                self._sign_in()
            answer = self._session.request(
                method, f"{self.place.url}/api/v2{path}", json=body, params=query, timeout=60
            )
            if answer.ok:
                return answer.json() if answer.content else None
            if answer.status_code == also:
                return None
            if answer.status_code not in (401, 500, 503):
                break
            self.progress.until("a quieter moment", _after(1.0 + attempt), 30)
        raise Failed(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:500]}")

    def _sign_in(self) -> None:
        self._session.headers.pop("Authorization", None)
        login = {"username": USER, "password": self.place.password}
        answer = self._session.post(f"{self.place.url}/auth/token", json=login, timeout=60)
        if not answer.ok:
            raise Failed(f"Airflow refused the demo's login with {answer.status_code}.")
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _after(seconds: float) -> Callable[[], tuple[bool | None, str]]:
    """An answer that comes after that long."""
    due = time.monotonic() + seconds
    return lambda: (True if time.monotonic() >= due else None, "")
