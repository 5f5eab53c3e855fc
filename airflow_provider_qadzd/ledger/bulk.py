"""Whole pages of rows at once, as fast as each database takes them: COPY on PostgreSQL, one statement on SQLite.

SQLAlchemy looks at each value of each row on its way to the driver; for a page of a thousand tickets that takes longer
than the database does (seen: 2.5 of 8 seconds for 20,000). So statements are made by it, once, and rows go past it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import JSON, Column, ColumnElement, Connection, Table, any_, bindparam, func, literal, select
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError

from airflow_provider_qadzd.ledger.store import json_text


def among(tx: Connection, column: Column[Any], values: Iterable[Any]) -> ColumnElement[bool]:
    """That `column` has one of these values, however many: they are one parameter, so the statement is always the same.

    A list of a thousand parameters costs either driver more than the query costs the database (seen).
    """
    listed = list(values)
    if tx.dialect.name == "postgresql":
        return column == any_(literal(listed, ARRAY(column.type)))
    each = func.json_each(json_text(listed)).table_valued("value")
    return column.in_(select(each.c.value))


def insert_rows(tx: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, which all name the same columns."""
    _write(tx, table, rows, replace=False)


def replace_rows(tx: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, which all name the same columns, replacing rows of the same primary key; no key comes twice.

    They are written in key order: two writers that take rows in different orders deadlock on PostgreSQL.
    """
    _write(tx, table, rows, replace=True)


def _write(tx: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, replace: bool) -> None:
    if not rows:
        return
    # In the table's order, as SQLAlchemy names them in a statement.
    names = tuple(column.name for column in table.columns if column.name in rows[0])
    values = _values(table, names, rows)
    if replace:
        places = [names.index(column.name) for column in table.primary_key]
        values = iter(sorted(values, key=itemgetter(*places)))
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql(_sqlite_statement(table, names, replace), list(values))
        return
    columns, stage = ", ".join(names), f"stage_{table.name}"
    if not replace:
        _copy(tx, f"COPY {table.name} ({columns}) FROM STDIN", values)
        return
    like = f"(LIKE {table.name} INCLUDING DEFAULTS)"
    tx.exec_driver_sql(f"CREATE TEMPORARY TABLE IF NOT EXISTS {stage} {like} ON COMMIT DELETE ROWS")
    _copy(tx, f"COPY {stage} ({columns}) FROM STDIN", values)
    tx.exec_driver_sql(_postgresql_statement(table, names, stage))


def _copy(tx: Connection, statement: str, values: Iterator[tuple[Any, ...]]) -> None:
    """COPY is the driver's own; its errors are told as SQLAlchemy tells those of everything else."""
    errors = tx.dialect.loaded_dbapi.Error
    try:
        with tx.connection.cursor().copy(statement) as copy:
            for row in values:
                copy.write_row(row)
    except errors as error:
        raise DBAPIError.instance(statement, (), error, errors, dialect=tx.dialect) from error


def _values(table: Table, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Each row as the driver takes it, with JSON as canonical text."""
    as_json = [place for place, name in enumerate(names) if isinstance(table.c[name].type, JSON)]
    of_row = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
    if not as_json:
        yield from map(of_row, rows)
        return
    for row in rows:
        values = list(of_row(row))
        for place in as_json:
            values[place] = json_text(values[place])
        yield tuple(values)


@lru_cache
def _sqlite_statement(table: Table, names: tuple[str, ...], replace: bool) -> str:
    statement = sqlite_dialect.insert(table).values({name: bindparam(name) for name in names})
    if replace:
        key = [column.name for column in table.primary_key]
        rest = {name: statement.excluded[name] for name in names if name not in key}
        statement = statement.on_conflict_do_update(index_elements=key, set_=rest)
    return str(statement.compile(dialect=sqlite_dialect.dialect()))


@lru_cache
def _postgresql_statement(table: Table, names: tuple[str, ...], stage: str) -> str:
    """Move what is staged into the table; the stage is empty afterwards, for the next page of the transaction."""
    key = [column.name for column in table.primary_key]
    columns, order = ", ".join(names), ", ".join(key)
    rest = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
    return (
        f"WITH staged AS (DELETE FROM {stage} RETURNING {columns}) "  # noqa: S608 - names of our own columns
        f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM staged ORDER BY {order} "
        f"ON CONFLICT ({order}) DO UPDATE SET {rest}"
    )
