"""The database itself: migrations, SQLite's details, outages, and writers that meet."""

from __future__ import annotations

import contextlib
import multiprocessing
import sqlite3
import stat
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text
from sqlalchemy.dialects.postgresql.base import PGIdentifierPreparer
from sqlalchemy.dialects.sqlite.base import SQLiteIdentifierPreparer
from sqlalchemy.exc import OperationalError, ProgrammingError

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger import Ledger, identity, schema
from airflow_provider_qadzd.ledger.bulk import upsert
from airflow_provider_qadzd.ledger.store import VERSION_TABLE, epoch_of, head_revision, iso
from tests.conftest import Postgres
from tests.ledger.rows import a_flow, a_record, observe

TABLES = sorted(schema.metadata.tables.values(), key=lambda table: table.name)


# -- migrations --------------------------------------------------------------------------------------------------------


def test_from_nothing_to_the_newest_revision(empty_url: str) -> None:
    """The migrations make every table and leave no difference to the schema that the code uses."""
    ledger = Ledger(empty_url)
    assert ledger.revision() is None
    ledger.upgrade()
    ledger.upgrade()
    assert ledger.revision() == head_revision()
    with ledger.engine.connect() as connection:
        # SQLite tells an empty default as no default; the migrations are the same, so PostgreSQL's answer is enough.
        options = {
            "version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": not ledger.is_sqlite
        }  # fmt: skip
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*schema.metadata.tables, VERSION_TABLE}
    ledger.engine.dispose()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_names_are_ours_and_no_keywords(table: Any) -> None:
    """Tables start with `qadzd_`, since they may lie among Airflow's; no name needs quotes on either database."""
    keywords = SQLiteIdentifierPreparer.reserved_words | PGIdentifierPreparer.reserved_words
    assert table.name.startswith("qadzd_")
    assert {table.name, *(column.name for column in table.columns)} & keywords == set()
    assert all(index.name.startswith("qadzd_") and len(index.name) <= 63 for index in table.indexes)
    assert table.comment


def open_it(url: str) -> str:
    """Open the ledger as a new process does; what became of it."""
    return _told(lambda: Ledger(url).opened())


def upgrade_it(url: str) -> str:
    """Migrate the ledger; what became of it."""
    return _told(lambda: Ledger(url).upgrade())


def _told(act: Callable[[], object]) -> str:
    try:
        act()
    except Exception as error:
        return repr(error)
    return "fine"


@pytest.mark.parametrize("act", [upgrade_it, open_it], ids=["told to migrate", "opening it"])
def test_six_processes_meet_a_new_ledger_at_once(empty_url: str, act: Callable[[str], str]) -> None:
    """One migrates, the others wait, and none fails; only SQLite is migrated by whoever opens it."""
    with ProcessPoolExecutor(6, multiprocessing.get_context("spawn")) as processes:
        told = list(processes.map(act, [empty_url] * 6))
    ledger = Ledger(empty_url)
    if act is open_it and not ledger.is_sqlite:
        assert all("airflow qadzd ledger upgrade" in one for one in told)
        ledger.upgrade()
    else:
        assert told == ["fine"] * 6
    with ledger.opened().reading() as tx:
        assert tx.execute(select(schema.source)).all() == []
    ledger.engine.dispose()


@pytest.mark.parametrize("revision", ["0000", "9999"], ids=["an older ledger", "a newer ledger"])
def test_a_ledger_of_another_revision_is_refused(ledger: Ledger, revision: str) -> None:
    """Tables of another version are neither used nor migrated on the way, and the error says how to go on."""
    with ledger.writing() as tx:
        tx.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :other"), {"other": revision})  # noqa: S608
    with pytest.raises(FixFirst, match=f"at revision {revision}, this package needs {head_revision()}") as told:
        ledger.opened()
    assert "airflow qadzd ledger upgrade" in told.value.advice
    with pytest.raises(FixFirst, match="cannot be migrated"):
        ledger.upgrade()
    assert ledger.revision() == revision


def test_a_migration_that_fails_leaves_nothing(empty_url: str) -> None:
    """All of a migration is one transaction: a ledger that cannot be migrated is as it was."""
    ledger = Ledger(empty_url)
    with ledger.writing() as tx:
        tx.execute(text("CREATE TABLE qadzd_wanted (ours INTEGER)"))
    with pytest.raises((OperationalError, ProgrammingError)):
        ledger.upgrade()
    with ledger.engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) - {VERSION_TABLE} == {"qadzd_wanted"}
    assert ledger.revision() is None
    ledger.engine.dispose()


# -- addresses and outages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "told"),
    [
        pytest.param("sqlite://", "in memory would be lost", id="SQLite in memory"),
        pytest.param("sqlite:///:memory:", "in memory would be lost", id="SQLite in memory by name"),
        pytest.param("mysql://localhost/ledger", "cannot be kept in mysql", id="another database"),
        pytest.param("sqlite:////proc/qadzd/ledger.db", "cannot be written", id="a folder that cannot be made"),
    ],
)
def test_where_a_ledger_cannot_be(url: str, told: str) -> None:
    """An address that can hold no ledger is for a person to mend."""
    with pytest.raises(FixFirst, match=told):
        Ledger(url)


def test_postgresql_is_reached_by_psycopg_whatever_the_url_says(postgres: Postgres) -> None:
    """A URL without a driver, as people write it, works."""
    ledger = Ledger(postgres.new().replace("postgresql+psycopg:", "postgresql:"))
    assert ledger.revision() is None
    ledger.engine.dispose()


def test_a_postgresql_that_is_away_is_a_matter_of_time(tmp_path: Path) -> None:
    """No server at the address: the same call may work later."""
    with pytest.raises(TryLater, match="locked or away"):
        Ledger(f"postgresql://nobody@/ledger?host={tmp_path}").revision()


def test_a_postgresql_that_ends_our_connection_is_a_matter_of_time(postgres: Postgres) -> None:
    """A transaction that is cut off raises TryLater, and the next one connects anew."""
    ledger = Ledger(postgres.new())
    cut = text("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(TryLater, match="locked or away"), ledger.writing() as tx:
        tx.execute(cut)
    assert ledger.revision() is None
    ledger.engine.dispose()


def test_a_wrong_statement_is_no_outage(ledger: Ledger) -> None:
    """What can never work is not called busy."""
    with pytest.raises((OperationalError, ProgrammingError)), ledger.writing() as tx:
        tx.execute(text("SELECT nothing FROM nowhere"))


def test_a_failed_transaction_leaves_nothing(ledger: Ledger) -> None:
    """Any error inside rolls everything back."""
    with contextlib.suppress(ZeroDivisionError), ledger.writing() as tx:
        upsert(tx, schema.mirror, [a_record(7, 1)])
        raise ZeroDivisionError
    with ledger.reading() as tx:
        assert tx.execute(select(schema.mirror)).all() == []


# -- SQLite ------------------------------------------------------------------------------------------------------------


def test_a_new_sqlite_ledger_is_private_and_lets_readers_read(tmp_path: Path) -> None:
    """The file is its owner's alone, with its folder made on the way, and in WAL mode with full durability."""
    path = tmp_path / "new" / "ledger.db"
    ledger = Ledger(f"sqlite:///{path}").opened()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with ledger.reading() as tx:
        assert tx.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert tx.execute(text("PRAGMA synchronous")).scalar_one() == 2


def test_sqlite_readers_and_a_writer_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """While one writes, others read what was there before."""
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db?timeout=0.1").opened()
    with ledger.writing() as tx:
        upsert(tx, schema.mirror, [a_record(7, 1)])
        with ledger.reading() as other:
            assert other.execute(select(schema.mirror)).all() == []


def test_sqlite_writers_wait_for_each_other(tmp_path: Path) -> None:
    """A writer that reads first and writes later waits its turn instead of failing at once."""

    def count_up(ledger: Ledger) -> None:
        for _ in range(20):
            with ledger.writing() as tx:
                seq = tx.execute(select(schema.account.c.event_seq)).scalar_one()
                time.sleep(0.001)
                tx.execute(schema.account.update().values(event_seq=seq + 1))

    ledgers = [Ledger(f"sqlite:///{tmp_path}/ledger.db").opened() for _ in range(4)]
    a_flow(ledgers[0])
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count_up, ledgers))
    with ledgers[0].reading() as tx:
        assert tx.execute(select(schema.account.c.event_seq)).scalar_one() == 80


def test_a_locked_sqlite_ledger_is_a_matter_of_time(tmp_path: Path) -> None:
    """A lock that outlasts the wait raises TryLater; once it is gone the same call works."""
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db?timeout=0.05").opened()
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TryLater, match="locked or away"):
        observe(ledger, a_record(7, 1))
    other.execute("ROLLBACK")
    other.close()
    observe(ledger, a_record(7, 1))


def test_a_sqlite_ledger_that_is_away_is_a_matter_of_time(tmp_path: Path) -> None:
    """A folder that is not there for a moment, as of a network drive, raises TryLater."""
    folder = tmp_path / "drive"
    ledger = Ledger(f"sqlite:///{folder}/ledger.db").opened()
    folder.rename(tmp_path / "gone")
    with pytest.raises(TryLater, match="locked or away"):
        ledger.revision()


# -- writers that meet -------------------------------------------------------------------------------------------------


def test_writers_of_the_same_rows_in_different_orders_never_deadlock(open_ledger: Callable[[], Ledger]) -> None:
    """Rows are written in key order, so writers wait in line instead of in a circle."""

    def write(ledger: Ledger, step: int) -> None:
        for n in range(30):
            observe(ledger, *(a_record(i, 1, digest=str(n)) for i in range(100)[::step]))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, [open_ledger() for _ in range(4)], [1, -1, 1, -1]))
    with open_ledger().reading() as tx:
        assert len(tx.execute(select(schema.mirror)).all()) == 100


def test_keys_sort_by_code_point_on_every_database(ledger: Ledger) -> None:
    """The lowest key is the same everywhere."""
    names = ["z", "Z", "ä", "a", "10", "9", "_", "é", "e", "A-1", "A1"]
    with ledger.writing() as tx:
        upsert(tx, schema.mirror, [a_record(n, 1, name_folded=name) for n, name in enumerate(names)])
        stored = tx.execute(select(schema.mirror.c.name_folded).order_by(schema.mirror.c.name_folded)).scalars().all()
    assert stored == sorted(names)


@pytest.mark.parametrize("rows", [0, 1, 3000], ids=["none", "one", "more than one statement holds"])
def test_upsert_of_any_number_of_rows(ledger: Ledger, rows: int) -> None:
    """Rows are inserted once and replaced the next time, except for the columns to keep."""
    for digest in ("first", "second"):
        with ledger.writing() as tx:
            new = [a_record(n, 1, digest=digest, updated_at=digest) for n in range(rows)]
            upsert(tx, schema.mirror, new, keep=["updated_at"])
    with ledger.reading() as tx:
        stored = tx.execute(select(schema.mirror.c.digest, schema.mirror.c.updated_at)).all()
    assert [tuple(row) for row in stored] == [("second", "first")] * rows


# -- times -------------------------------------------------------------------------------------------------------------


def test_times_sort_as_text() -> None:
    """Times are written to the millisecond in UTC, and read back from any zone but none."""
    assert iso(1_800_000_000.0) == "2027-01-15T08:00:00.000Z"
    assert epoch_of("2027-01-15T08:00:00Z") == epoch_of("2027-01-15T09:00:00+01:00") == 1_800_000_000.0
    with pytest.raises(ValueError, match="no time zone"):
        epoch_of("2027-01-15T08:00:00")


def test_a_sqlite_ledger_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    """A file put in the ledger's place, as by a restore, is what is read and written from then on."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{path}").opened()
    identity.account_at(ledger, "https://before.zendesk.com")
    Ledger(f"sqlite:///{tmp_path}/other.db").opened().engine.dispose()
    (tmp_path / "away").mkdir()
    for file in tmp_path.glob("ledger.db*"):
        file.rename(tmp_path / "away" / file.name)
    (tmp_path / "other.db").rename(path)
    identity.account_at(ledger, "https://after.zendesk.com")
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT base_url FROM qadzd_account").fetchall() == [("https://after.zendesk.com",)]
