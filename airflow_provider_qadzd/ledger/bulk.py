"""Whole pages of rows at once, as fast as each database takes them: COPY on PostgreSQL, one statement on SQLite.

SQLAlchemy looks at each value of each row on its way to the driver; for a page of a thousand tickets that takes longer
than the database does (seen: 2.5 of 8 seconds for 20,000). So these statements are written here, from its tables, and
rows go past it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    String,
    Table,
    any_,
    cast,
    func,
    literal,
    select,
)
from sqlalchemy.exc import DBAPIError

from airflow_provider_qadzd.ledger.store import json_text

FEW = 50
"""Up to so many rows PostgreSQL is given one by one, more by way of a stage (seen: a connection that has the stage is
quicker with it from five rows on, a new one from a hundred; fifty loses two milliseconds at worst)."""


def among(tx: Connection, column: Column[Any], values: Iterable[Any]) -> ColumnElement[bool]:
    """That `column` has one of these values, however many: they are one parameter, so the statement is always the same.

    A list of a thousand parameters costs either driver more than the query costs the database, and an array of
    PostgreSQL is put together value by value in Python (both seen).
    """
    listed = literal(json_text(list(values)), String)
    if tx.dialect.name == "postgresql":
        each = func.json_array_elements_text(cast(listed, JSON)).column_valued()
        return column == any_(func.array(select(cast(each, column.type)).scalar_subquery()))
    return column.in_(select(func.json_each(listed).table_valued("value").c.value))


def insert_rows(tx: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows`, which all name the same columns."""
    if not rows:
        return
    names = _named(table, rows)
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql(_insertion(table, names, "?"), list(_values(table, names, rows)))
    else:
        _copy(tx, table.name, names, _values(table, names, rows))


def upsert(
    tx: Connection, table: Table, rows: Iterable[Mapping[str, Any]], keep: Sequence[str] = (),
    unless_older: Sequence[str] = (),
) -> None:  # fmt: skip
    """Insert `rows`, which all name the same columns, replacing rows of the same primary key except for `keep`.

    No key comes twice. With `unless_older`, a row stays whose values in those columns are greater than the new one's.
    Rows are written in key order: two writers that take rows in different orders deadlock on PostgreSQL.
    """
    rows = list(rows)
    if not rows:
        return
    names = _named(table, rows)
    places = [names.index(column.name) for column in table.primary_key]
    values = sorted(_values(table, names, rows), key=itemgetter(*places))
    replacing = _replacing(table, names, keep, unless_older)
    if tx.dialect.name == "sqlite" or len(values) <= FEW:
        place = "?" if tx.dialect.name == "sqlite" else "%s"
        tx.exec_driver_sql(f"{_insertion(table, names, place)} {replacing}", values)
        return
    stage, columns, order = f"stage_{table.name}", _listed(names), _listed(table.primary_key.columns.keys())
    tx.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {stage} (LIKE {table.name} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
    )
    _copy(tx, stage, names, values)
    # The stage is empty afterwards, for the next page of the transaction.
    tx.exec_driver_sql(
        f"WITH staged AS (DELETE FROM {stage} RETURNING {columns}) "  # noqa: S608 - names of our own columns
        f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM staged ORDER BY {order} {replacing}"
    )


def _named(table: Table, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [column.name for column in table.columns if column.name in rows[0]]


def _listed(names: Iterable[str], form: str = '"{}"') -> str:
    return ", ".join(form.format(name) for name in names)


def _insertion(table: Table, names: Sequence[str], place: str) -> str:
    places = ", ".join(place for _ in names)
    return f"INSERT INTO {table.name} ({_listed(names)}) VALUES ({places})"  # noqa: S608 - names of our own columns


def _replacing(table: Table, names: Sequence[str], keep: Sequence[str], unless_older: Sequence[str]) -> str:
    """What an INSERT does with a row that is there already; both databases spell it alike."""
    key = table.primary_key.columns.keys()
    rest = [name for name in names if name not in key and name not in keep]
    if not rest:
        return f"ON CONFLICT ({_listed(key)}) DO NOTHING"
    stored, new = (_listed(unless_older, form) for form in (f'{table.name}."{{}}"', 'excluded."{}"'))
    due = f" WHERE ({stored}) <= ({new})" if unless_older else ""
    return f"ON CONFLICT ({_listed(key)}) DO UPDATE SET " + _listed(rest, '"{0}" = excluded."{0}"') + due


def _copy(tx: Connection, into: str, names: Sequence[str], values: Iterable[tuple[Any, ...]]) -> None:
    """COPY is the driver's own; its errors are told as SQLAlchemy tells those of everything else."""
    statement, errors = f"COPY {into} ({_listed(names)}) FROM STDIN", tx.dialect.loaded_dbapi.Error
    try:
        with tx.connection.cursor().copy(statement) as copy:
            for row in values:
                copy.write_row(row)
    except errors as error:
        raise DBAPIError.instance(statement, (), error, errors, dialect=tx.dialect) from error


def _values(table: Table, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
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
