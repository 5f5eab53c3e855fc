"""Airflow's api-server in a process of its own, with nothing else of Airflow beside it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests

from airflow_provider_qadzd.sandbox.demo.processes import Progress, Service, free_ports
from airflow_provider_qadzd.sandbox.demo.standalone import Place, airflow_environment

AIRFLOW = str(Path(sys.executable).parent / "airflow")


@contextmanager
def api_server(folder: Path, more: Mapping[str, str]) -> Iterator[Place]:
    """It runs, with one user, a fresh ledger and these settings."""
    place = Place(folder, folder / "dags", *free_ports(3))
    for needed in (place.home, place.dags):
        needed.mkdir()
    (place.home / "passwords.json").write_text(json.dumps({"admin": place.password}))
    environment = airflow_environment(place, {"QADZD_LEDGER_URL": f"sqlite:///{folder}/ledger.db", **more})
    progress = Progress()
    migration = [AIRFLOW, "db", "migrate"]
    migrated = Service("The migration", migration, environment, folder / "migrate.log", signal.SIGINT)
    server = Service("Airflow", [AIRFLOW, "api-server"], environment, folder / "api.log", signal.SIGINT)
    migrated.start()
    progress.until("Airflow's tables", lambda: (_ended(migrated), ""), 120, pause=0.2)
    server.start()
    progress.watch(server)
    try:
        progress.until("the api-server", lambda: (_answers(place), ""), 120, pause=0.2)
        yield place
    finally:
        server.stop()


def _ended(service: Service) -> bool | None:
    """True once a process that ends by itself has ended well."""
    process = service._process
    assert process is not None
    code = process.poll()
    assert code in (None, 0), service.log_tail()
    return None if code is None else True


def _answers(place: Place) -> bool | None:
    """True once the api-server does."""
    try:
        return requests.get(f"{place.url}/api/v2/monitor/health", timeout=5).ok or None
    except requests.ConnectionError:
        return None
