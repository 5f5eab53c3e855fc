"""A history window as one file: the ledger's own rows, as JSON lines or as Parquet.

A file holds the tickets whose latest change, as far as the ledger knows now, lies in its window; so a window that is
exported again replaces its file by one that is at least as new. A ticket that changed later is in the later window's
file too: of two rows of one ticket, the one with the greater `version_epoch` is the state.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger, tickets

Format = Literal["jsonl", "parquet"]
Rows = list[dict[str, Any]]


def file_name(starts: float, ends: float, form: Format) -> str:
    """The window's file: the same for the same window, and sorted as windows are."""
    stamps = (datetime.fromtimestamp(one, timezone.utc).strftime("%Y%m%dT%H%M%SZ") for one in (starts, ends))
    return f"tickets_{'_'.join(stamps)}.{form}"


def checked_format(text: str) -> Format:
    """The format of that name. FixFirst for an unknown one, and for Parquet without the library that writes it."""
    if text not in get_args(Format):
        raise FixFirst(f"[qadzd] history_format is {text!r}.", advice=f"Known: {', '.join(get_args(Format))}.")
    if text == "parquet":
        _pyarrow()
    return text  # type: ignore[return-value]


def write_window(ledger: Ledger, account_id: int, starts: float, ends: float, path: Path, form: Format) -> int:
    """Write the window's tickets to a local file, a page at a time; how many they are."""
    pages = tickets.changed_between(ledger, account_id, starts, ends)
    return _WRITERS[form](pages, path)


def _write_jsonl(pages: Iterator[Rows], path: Path) -> int:
    count = 0
    with path.open("wb") as file:
        for rows in pages:
            file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)
            count += len(rows)
    return count


def _write_parquet(pages: Iterator[Rows], path: Path) -> int:
    arrow, parquet = _pyarrow()
    schema = arrow.schema([arrow.field(name, _arrow_type(arrow, kind)) for name, kind in tickets.COLUMNS.items()])
    count = 0
    with parquet.ParquetWriter(path, schema) as file:
        for rows in pages:
            # A custom field's value may be text, a number, a list: as JSON text every account's fit one column.
            told = [{**row, "custom_fields": msgspec.json.encode(row["custom_fields"]).decode()} for row in rows]
            file.write_table(arrow.Table.from_pylist(told, schema))
            count += len(rows)
    return count


_WRITERS = {"jsonl": _write_jsonl, "parquet": _write_parquet}


def _arrow_type(arrow: Any, kind: str) -> Any:
    types = {"text": arrow.string(), "id": arrow.int64(), "seconds": arrow.float64(), "flag": arrow.bool_()}
    return arrow.list_(arrow.string()) if kind == "texts" else types.get(kind, arrow.string())


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise FixFirst(
            "Parquet files need pyarrow, which is not installed.",
            advice="Install airflow-provider-qadzd[parquet], or set [qadzd] history_format = jsonl.",
        ) from None
