"""Further columns of a browse, beyond those that every customer and contact is read from: what a mapping names.

Only what is named is taken: a customer browse has credit terms and tax data too, which stay in QAD. Nothing here
touches the network.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from airflow_provider_qadzd.errors import FixFirst, SetAside
from airflow_provider_qadzd.qad.browse import Row
from airflow_provider_qadzd.records import fold

Record = TypeVar("Record")
"""A Customer or a Contact."""


def found_columns(
    named: Mapping[str, str], available: Iterable[str], listed: Iterable[str], where: str
) -> dict[str, str]:  # fmt: skip
    """Column as it is named -> as the rows spell it, in whatever case.

    `named` tells of each where it is named. FixFirst with every one that the browse does not have, and the nearest.
    """
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


def _nearest(name: str, seen: Mapping[str, str]) -> str:
    """By the column alone: whoever mistypes the table has the column right."""
    tails = {folded.rpartition(".")[2]: folded for folded in seen if len(folded) <= 200}
    near = difflib.get_close_matches(fold(name).rpartition(".")[2], tails, n=2)
    return f"; nearest: {', '.join(seen[tails[one]] for one in near)}" if near else ""


def with_columns(record: Record, row: Row, columns: Mapping[str, str]) -> Record:
    """`record` with these columns of its row, by the names that they are asked for; SetAside for a nested value."""
    values = {name: _scalar(row.get(spelt), name) for name, spelt in columns.items()}
    return replace(record, columns=values)  # type: ignore[type-var]


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
