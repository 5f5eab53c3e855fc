"""A world for each test: the sandbox of the default seed, reset, and a new ledger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.sandbox import Sandbox, running
from tests.sync.world import Snapshot, World, world_of

SMALL = (12, 15, 20)


@pytest.fixture(scope="session")
def sync_sandbox() -> Iterator[Sandbox]:
    """One server for all these tests."""
    with running() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty ledger, to be copied."""
    path = tmp_path_factory.mktemp("ledger") / "empty.db"
    ledger = Ledger(f"sqlite:///{path}").opened()
    ledger.engine.dispose()
    return path


@pytest.fixture
def ledger_path(empty_ledger: Path, tmp_path: Path) -> Path:
    """The file of a ledger of this test's own."""
    return Path(shutil.copy(empty_ledger, tmp_path / "ledger.db"))


@pytest.fixture
def world(sync_sandbox: Sandbox, ledger_path: Path) -> Iterator[World]:
    """40 customers, 120 contacts and 200 tickets, nothing synced yet."""
    with world_of(sync_sandbox, ledger_path) as found:
        yield found


@pytest.fixture
def small(sync_sandbox: Sandbox, ledger_path: Path) -> Iterator[World]:
    """12 customers, 15 contacts and 20 tickets, nothing synced yet: all of the seed's troubles, few records."""
    with world_of(sync_sandbox, ledger_path, SMALL) as found:
        yield found


@pytest.fixture
def either(sync_sandbox: Sandbox, ledger_url: str, tmp_path: Path) -> Iterator[World]:
    """The small world with its ledger on SQLite, and once more on PostgreSQL."""
    with world_of(sync_sandbox, tmp_path / "ledger.db", SMALL, url=ledger_url) as found:
        yield found


@pytest.fixture(scope="session")
def after_first_run(sync_sandbox: Sandbox, empty_ledger: Path, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """The small world after its first run, made once."""
    path = Path(shutil.copy(empty_ledger, tmp_path_factory.mktemp("synced") / "ledger.db"))
    with world_of(sync_sandbox, path, SMALL) as found:
        found.sync()
        return Snapshot.of(sync_sandbox, path)


@pytest.fixture
def synced(sync_sandbox: Sandbox, after_first_run: Snapshot, tmp_path: Path) -> Iterator[World]:
    """The small world after its first run."""
    path = Path(shutil.copy(after_first_run.path, tmp_path / "ledger.db"))
    with world_of(sync_sandbox, path, SMALL, after=after_first_run) as found:
        yield found
