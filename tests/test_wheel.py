"""The wheel is what people install: it brings the DAGs, the migrations and the types, and Airflow finds it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the clone."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return next(folder.glob("*.whl"))


def test_it_carries_all_that_is_needed(wheel: Path) -> None:
    """DAGs, migrations, templates and the marker of types are inside; tests are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "dags").glob("*.py"):
        assert f"airflow_provider_qadzd/dags/{path.name}" in names
    assert "airflow_provider_qadzd/ledger/migrations/versions/0001_first_tables.py" in names
    assert "airflow_provider_qadzd/plugin/templates/connect.html" in names
    assert "airflow_provider_qadzd/py.typed" in names
    assert not any(name.startswith("tests/") for name in names)


def test_its_dags_are_copied_and_parsed(wheel: Path, tmp_path: Path) -> None:
    """Unpacked away from the clone, `airflow qadzd dags --to` copies the DAGs, and they parse without an error."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "installed"),
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
    }
    airflow = str(Path(sys.executable).parent / "airflow")

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    copied = run(airflow, "qadzd", "dags", "--to", str(tmp_path / "dags"))
    assert str(tmp_path / "dags" / "qadzd_sync_accounts.py") in copied
    where = run(sys.executable, "-c", "import airflow_provider_qadzd as p; print(p.__file__)")
    assert str(tmp_path / "installed") in where
    parsed = (
        "from airflow.dag_processing.dagbag import DagBag;"
        f"bag = DagBag({str(tmp_path / 'dags')!r}); print(sorted(bag.dags), bag.import_errors)"
    )
    said = run(sys.executable, "-c", parsed)
    assert "'qadzd_ticket_history'] {}" in said
