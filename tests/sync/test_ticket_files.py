"""History windows as files beside the ledger: the same rows, replaced as wholes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.tickets import COLUMNS
from airflow_provider_qadzd.sync.ticket_files import Format, checked_format, file_name, write_window
from tests.sync.test_deliveries import change, live
from tests.sync.test_exports import DAY, export, midnight, window
from tests.sync.world import World

FORMATS: tuple[Format, ...] = ("jsonl", "parquet")


def read(path: Path, form: Format) -> list[dict[str, Any]]:
    """The file's rows, as somebody else reads them."""
    if form == "jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return [{**row, "custom_fields": json.loads(row["custom_fields"])} for row in rows]


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_holds_the_rows_of_the_ledger(world: World, tmp_path: Path, form: Format) -> None:
    """A window's file has each of its tickets once, column by column as the ledger has it, customers included."""
    world.sync()
    starts, ends = midnight(world) - 4 * DAY, midnight(world) - 2 * DAY
    done = window(world, starts, ends)
    path = tmp_path / file_name(starts, ends, form)
    assert write_window(world.ledger, world.account.account_id, starts, ends, path, form) == done.ticket_count > 10
    kept = [{name: row[name] for name in COLUMNS} for row in world.rows("ticket")]
    assert read(path, form) == kept
    assert {row["match_reason"] for row in kept} > {"requester"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_window_without_tickets_has_an_empty_file(small: World, tmp_path: Path, form: Format) -> None:
    """That a window was exported can be seen, also where nothing happened in it."""
    path = tmp_path / f"none.{form}"
    assert write_window(small.ledger, small.account.account_id, 0.0, DAY, path, form) == 0
    assert read(path, form) == []


def test_a_ticket_that_changed_since_leaves_the_file(small: World, tmp_path: Path) -> None:
    """A window that is exported again holds what has its latest change there now, and no older state."""
    small.start_exports()
    export(small, "1")
    starts, ends, path = midnight(small) - 100 * DAY, midnight(small), tmp_path / "rows.jsonl"
    moved = live(small)[0]
    before = write_window(small.ledger, small.account.account_id, starts, ends, path, "jsonl")
    change(small, moved, subject="Changed")
    small.clock.sleep(130)
    export(small, "2")
    assert write_window(small.ledger, small.account.account_id, starts, ends, path, "jsonl") == before - 1
    assert moved not in {row["ticket_id"] for row in read(path, "jsonl")}


def test_a_file_is_named_by_its_window() -> None:
    """Names sort as windows do, and say their bounds in UTC."""
    assert file_name(1_800_000_000, 1_800_086_400, "parquet") == "tickets_20270115T080000Z_20270116T080000Z.parquet"


def test_an_unknown_format_is_told() -> None:
    """The error names the formats there are."""
    with pytest.raises(FixFirst, match="jsonl, parquet"):
        checked_format("csv")


def test_parquet_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is not installed the run stops before it exports anything."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert checked_format("jsonl") == "jsonl"
    with pytest.raises(FixFirst, match=r"airflow-provider-qadzd\[parquet\]"):
        checked_format("parquet")
