"""The ledger's database: opening it, migrating it, and short transactions on it.

SQLite (WAL, a writer takes its lock at BEGIN) for one machine, PostgreSQL for more. No transaction of this module is
ever open during a network call: read what you need, close, call, then write.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.exc import DisconnectionError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.records import Clock, SystemClock

Transaction = Connection
"""What `writing` and `reading` yield: a database connection inside its transaction."""

_T = TypeVar("_T")

VERSION_TABLE = "qadzd_alembic_version"
_MIGRATION_LOCK = 0x7161647A  # "qadz"; PostgreSQL's advisory locks are numbers
_BUSY_SECONDS = "30"
_PLAN_EACH_TIME = "-c plan_cache_mode=force_custom_plan"
"""The driver prepares what is asked often, and PostgreSQL would keep the plan it made while tables were empty: the
query for candidates took 250 ms with it and takes 8 ms without (seen on 17), of which 1 ms is planning."""
_UPGRADE = "Run `airflow qadzd ledger upgrade` with the newest version of this package that you use."


class Ledger:
    """One ledger database. Cheap to make; holds a small connection pool; safe to share between threads."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        """`url` is a SQLAlchemy URL (`sqlite:////path/ledger.db`, `postgresql+psycopg://...`).

        A SQLite writer waits 30 seconds for another one, or as many as the URL's `timeout` says.
        """
        self.clock: Clock = clock or SystemClock()
        self.vault: Callable[[], Any] | None = None
        """Opens the keys with which it is told who was forgotten; whoever stores rows of people sets it."""
        self.engine = _engine(url)
        # Closed when nobody holds the ledger any more: an interpreter that finds them open later warns about it.
        weakref.finalize(self, self.engine.dispose)
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write: committed at the end of the block, rolled back on any error.

        Raises TryLater when the database is locked or away.
        """
        with _outages_told(), self._connect(qadzd_writes=True) as tx, tx.begin():
            yield tx

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises TryLater when the database is locked or away."""
        with _outages_told(), self._connect() as tx, tx.begin():
            yield tx

    def _connect(self, **options: Any) -> Connection:
        return self.engine.connect().execution_options(qadzd_ledger=self, **options)

    def now(self) -> str:
        """The clock's time as the ledger writes it."""
        return iso(self.clock.time())

    def opened(self) -> Ledger:
        """This ledger once its tables are those of this package's version.

        A new SQLite ledger is migrated by whoever opens it first. Any other difference is FixFirst.
        """
        found = self.revision()
        if found is None and self.is_sqlite:
            self.upgrade()
            found = self.revision()
        if found != head_revision():
            raise FixFirst(
                f"The ledger's tables are at revision {found or 'none'}, this package needs {head_revision()}.",
                advice=_UPGRADE,
            )
        return self

    def revision(self) -> str | None:
        """The migration that the database is at, None for a database without our tables."""
        with self.reading() as tx:
            return MigrationContext.configure(tx, opts={"version_table": VERSION_TABLE}).get_current_revision()

    def upgrade(self) -> None:
        """Migrate to the newest revision. Any number of processes may do so at once: one works, the others wait.

        FixFirst for a ledger that a newer version of this package has migrated.
        """
        with _outages_told(), self._migration_lock():
            if self.is_sqlite:
                self._use_wal()
            with self.engine.connect().execution_options(qadzd_writes=True) as connection, connection.begin():
                config = migration_config()
                config.attributes["connection"] = connection
                try:
                    command.upgrade(config, "head")
                except CommandError as error:
                    raise FixFirst(
                        f"The ledger cannot be migrated to revision {head_revision()}: {error}.",
                        advice=_UPGRADE,
                    ) from error

    def _use_wal(self) -> None:
        """Readers and a writer at once. The file remembers it, and it cannot be set inside a transaction."""
        connection = self.engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()

    def take_stock(self, *tables: Table) -> None:
        """Let PostgreSQL look at how these tables are filled, as it does by itself minutes after they have grown.

        Without that it takes full tables for empty ones and walks each once per row (seen: 77 s for 20,000 rows).
        """
        if not self.is_sqlite:
            with self.writing() as tx:
                tx.execute(text(f"ANALYZE {', '.join(table.name for table in tables)}"))

    def compact(self) -> bool:
        """Write over whatever was deleted, so that nothing of it is left in the database's file.

        False if that has to be done again, because somebody is using the ledger at this moment.
        """
        with contextlib.closing(self.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            if not self.is_sqlite:
                connection.driver_connection.autocommit = True  # type: ignore[union-attr]
                cursor.execute("VACUUM")
                connection.driver_connection.autocommit = False  # type: ignore[union-attr]
                return True
            try:
                cursor.execute("VACUUM")
                busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:
                return False
            return not busy

    @contextlib.contextmanager
    def _migration_lock(self) -> Iterator[None]:
        if self.is_sqlite:
            with Path(f"{self.engine.url.database}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            return
        with self.engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": _MIGRATION_LOCK})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": _MIGRATION_LOCK})


def ledger_of(tx: Connection) -> Ledger:
    """The ledger that a transaction of `writing` or `reading` belongs to."""
    found = tx.get_execution_options()["qadzd_ledger"]
    if not isinstance(found, Ledger):
        raise TypeError("not a transaction of a ledger")
    return found


def iso(epoch: float) -> str:
    """Unix seconds as ISO 8601 UTC text to the millisecond, which sorts as time does."""
    return datetime.fromtimestamp(epoch, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_of(iso_text: str) -> float:
    """ISO 8601 text (with `Z` or an offset) as Unix seconds. Raises ValueError for anything else."""
    moment = datetime.fromisoformat(iso_text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"{iso_text!r} has no time zone")
    return moment.timestamp()


def insert_into(tx: Connection, table: Table) -> Any:
    """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`, which both databases spell alike."""
    return (postgresql if tx.dialect.name == "postgresql" else sqlite_dialect).insert(table)


# Sorted and compact as `canonical_json`, in a quarter of its time: a read of everything writes and compares much.
_ENCODER = msgspec.json.Encoder(order="deterministic")


def json_bytes(value: object) -> bytes:
    """`value` as sorted, compact JSON: equal values give equal bytes."""
    return _ENCODER.encode(value)


def json_text(value: object) -> str:
    """The same as text."""
    return _ENCODER.encode(value).decode()


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """`items` in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """`items`, as they come, in lists of at most `size`."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def migration_config() -> Config:
    """Alembic's configuration, without a file: the scripts lie beside this module."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def head_revision() -> str:
    """The newest migration of this package."""
    return ScriptDirectory.from_config(migration_config()).get_current_head() or ""


def _engine(url: str) -> Engine:
    where = make_url(url)
    if where.get_backend_name() == "sqlite":
        if not where.database or where.database == ":memory:":
            raise FixFirst(
                "A ledger in memory would be lost with its process.", advice="Give a file: sqlite:////path/ledger.db"
            )
        try:
            Path(where.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            Path(where.database).touch(mode=0o600)
        except OSError as error:
            raise FixFirst(
                f"The ledger's file {where.database} cannot be written: {error.strerror}.",
                advice="Let the user that Airflow runs as write to it and to its folder.",
            ) from error
        timeout = where.query.get("timeout", _BUSY_SECONDS)
        engine = create_engine(where.update_query_dict({"timeout": timeout}), json_serializer=json_text)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "checkout", _same_file)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if where.get_backend_name() != "postgresql":
        raise FixFirst(
            f"A ledger cannot be kept in {where.get_backend_name()}.",
            advice="Use sqlite:////path/ledger.db or postgresql+psycopg://user@host/database.",
        )
    options = f"{where.query.get('options', '')} {_PLAN_EACH_TIME}".strip()
    return create_engine(
        where.set(drivername="postgresql+psycopg"), json_serializer=json_text, pool_pre_ping=True, pool_size=2,
        connect_args={"options": options},
    )  # fmt: skip


def _set_up_sqlite(connection: Any, record: ConnectionPoolEntry) -> None:
    record.info["file"] = _file_of(connection)
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says, not where the driver guesses
    connection.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut


def _same_file(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    # A connection kept open goes on writing into a file that was moved away or replaced, and nobody would ever see it.
    if record.info["file"] != _file_of(connection):
        raise DisconnectionError


def _file_of(connection: Any) -> tuple[int, int] | None:
    try:
        found = Path(connection.execute("PRAGMA database_list").fetchone()[2]).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another wrote in between, whatever the busy
    # timeout; one that takes the write lock at BEGIN waits its turn.
    writes = connection.get_execution_options().get("qadzd_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _outages_told() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout) as error:
        if _is_no_outage(error):
            raise
        raise TryLater(f"The ledger is locked or away ({_kind(error)}).", wait=10.0) from error


def _is_no_outage(error: SQLAlchemyError) -> bool:
    # SQLite calls a wrong statement operational, too: "no such table: ..."
    return str(getattr(error, "orig", "")).startswith(("no such ", "near ", "table ", "cannot "))


def _kind(error: SQLAlchemyError) -> str:
    return type(getattr(error, "orig", None) or error).__name__
