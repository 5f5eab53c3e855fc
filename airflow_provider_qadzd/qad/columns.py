"""From rows to records by columns: those of every record, and the further ones that a mapping names.

Only what is named is taken: a customer browse has credit terms and tax data too, which stay in QAD. Nothing here
touches the network.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from airflow_provider_qadzd.errors import FixFirst, SetAside
from airflow_provider_qadzd.qad.browse import Row
from airflow_provider_qadzd.records import Contact, Customer, fold
from airflow_provider_qadzd.settings import refuse_unknown

# Orders, invoices and balances stay in QAD, whatever a mapping names. Codes and dates of them are no figures.
_FIGURE = re.compile(r"credit_?limit|cr_?limit|balance|amount|overdue|turnover|exposure|open_?items?|ytd")

Record = TypeVar("Record", Customer, Contact)
"""A Customer or a Contact."""


def found_columns(
    named: Mapping[str, str], available: Iterable[str], listed: Iterable[str], where: str
) -> dict[str, str]:  # fmt: skip
    """Column as it is named -> as the rows spell it, in whatever case.

    `named` tells of each where it is named. FixFirst with every one that the browse does not have, and the nearest.
    """
    figures = [f"{name!r} (named in {place})" for name, place in named.items() if _FIGURE.search(_tail(name))]
    if figures:
        raise FixFirst(
            f"{where}: {', '.join(figures)} holds a financial figure, which stays in QAD.",
            advice="Link to it instead: organization fields qad_orders and qad_billing do.",
        )
    seen = {fold(name): name for name in (*sorted(listed), *sorted(available))}
    unknown = [
        f"{name!r} (named in {place}{_nearest(name, seen)})" for name, place in named.items() if fold(name) not in seen
    ]
    if unknown:
        raise FixFirst(
            f"{where}: the browse has no column {'; no column '.join(unknown)}.",
            advice="`airflow qadzd columns` lists those that it has.",
        )
    return {name: seen[fold(name)] for name in named}


def _tail(name: str) -> str:
    return fold(name).rpartition(".")[2]


def _nearest(name: str, seen: Mapping[str, str]) -> str:
    """By the column alone: whoever mistypes the table has the column right."""
    tails = {folded.rpartition(".")[2]: folded for folded in seen if len(folded) <= 200}
    near = difflib.get_close_matches(fold(name).rpartition(".")[2], tails, n=2)
    return f"; nearest: {', '.join(seen[tails[one]] for one in near)}" if near else ""


def with_columns(record: Record, row: Row, columns: Mapping[str, str]) -> Record:
    """`record` with these columns of its row, by the names that they are asked for; SetAside for a nested value."""
    values = {name: _scalar(row.get(spelt), name) for name, spelt in columns.items()}
    return replace(record, columns=values)


def _scalar(value: object, name: str) -> str | int | float | bool | None:
    """Text is trimmed; 7.0 is 7, because some sites send whole numbers as decimals."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and not math.isfinite(value):  # no database and no JSON takes it
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise SetAside(f"unreadable_{name}", f"QAD sent {name} as {type(value).__name__}.")


def wanted_columns(
    defaults: Mapping[str, str], given: Mapping[str, str], record: type[Record], needed: tuple[str, ...], where: str
) -> tuple[dict[str, str], frozenset[str]]:  # fmt: skip
    """The columns to read, and which of them a browse may lack: those that nobody asked for by name."""
    refuse_unknown(given, record.__struct_fields__, where)
    columns = {name: column.strip() for name, column in {**defaults, **given}.items() if column.strip()}
    for name in needed:
        if name not in columns:
            raise FixFirst(f"{where}: {name} cannot be left out.")
    return columns, frozenset(columns) - frozenset(given) - frozenset(needed)


def records_in(
    rows: Iterable[Row], record_from: Callable[[Row, Mapping[str, str]], Record], columns: Mapping[str, str],
    further: Mapping[str, str], refused: Counter[str], placed: Callable[[Record], Record],
) -> list[Record]:  # fmt: skip
    """The records in these rows, each `placed` in its scope; rows that are none are counted in `refused`, by reason."""
    records = []
    for row in rows:
        try:
            record = placed(record_from(row, columns))
            records.append(with_columns(record, row, further) if further else record)
        except SetAside as aside:
            refused[aside.reason] += 1
    return records


def remembered(columns_for: Callable[[frozenset[str]], dict[str, str]]) -> Callable[[frozenset[str]], dict[str, str]]:
    """Pages mostly have the same keys: each set of keys is resolved once."""
    known: dict[frozenset[str], dict[str, str]] = {}

    def answer(keys: frozenset[str]) -> dict[str, str]:
        if keys not in known:
            if len(known) > 100:  # a site whose pages all differ costs time, not memory
                known.clear()
            known[keys] = columns_for(keys)
        return known[keys]

    return answer
