"""What the README names exists, by that name and with that default."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import fields
from pathlib import Path

import pytest
from sqlalchemy import text

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.schema import metadata
from airflow_provider_qadzd.provider_info import get_provider_info
from airflow_provider_qadzd.qad.client import QadSettings
from airflow_provider_qadzd.qad.qxtend_settings import PROFILES, QxtendSettings
from airflow_provider_qadzd.sync.export import LEFT_TO_LIVE
from airflow_provider_qadzd.sync.policies import ALLOWED
from airflow_provider_qadzd.zendesk.connection import ZendeskSettings
from airflow_provider_qadzd.zendesk.wire import EXPORT_PAGE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def table(heading: str, column: str) -> list[list[str]]:
    """The rows of the table under a heading whose first column is called so."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    start = next(n for n, row in enumerate(rows) if row[0] == column)
    ends = [n for n in range(start + 1, len(rows)) if rows[n][0] == column]
    return [row for row in rows[start + 2 : ends[0] if ends else len(rows)] if not row[0].startswith("---")]


def names(cell: str) -> list[str]:
    """The words in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_options_are_those_of_the_provider() -> None:
    """The table of options lists each option with its default."""
    options = get_provider_info()["config"]["qadzd"]["options"]
    listed = {names(row[0])[0]: names(row[1]) for row in table("Options", "option")}
    assert set(listed) == set(options)
    for name, default in listed.items():
        if name not in ("flows", "receiver_url", "mapping_path", "history_files"):
            assert default == [options[name]["default"]], name


@pytest.mark.parametrize(
    ("settings", "which"),
    [(QadSettings, "qad_default"), (QxtendSettings, "qad_qxtend"), (ZendeskSettings, "zendesk_default")],
    ids=["qad", "qxtend", "zendesk"],
)
def test_extras_are_those_of_the_connection(settings: type, which: str) -> None:
    """Each extra that the README explains is one that the connection takes."""
    part = README.split(f"**`{which}`**", 1)[1].split("\n**`", 1)[0]
    rows = [line for line in part.splitlines() if line.startswith("| `")]
    known = {field.name for field in fields(settings)} | set(PROFILES)
    assert rows
    for row in rows:
        assert set(names(row.split("|")[1])) <= known


def test_qxtend_is_explained_whole() -> None:
    """A site that has to describe its own QXtend finds every setting and every profile."""
    part = README.split("**`qad_qxtend`**", 1)[1].split("\n**`", 1)[0]
    explained = {name for line in part.splitlines() if line.startswith("| `") for name in names(line.split("|")[1])}
    assert explained == {field.name for field in fields(QxtendSettings)} | set(PROFILES)


def test_dags_are_those_in_the_folder() -> None:
    """The table of DAGs names each DAG file, and no other."""
    listed = {names(row[0])[0] for row in table("DAGs", "DAG")}
    assert listed == {path.stem for path in (ROOT / "dags").glob("*.py")}


def test_what_the_past_costs() -> None:
    """Calls and minutes follow from the size of a page and from the calls that are left to live runs."""
    rows = table("Tickets of the past", "tickets in the year")
    for row in rows:
        tickets, windows, calls, minutes = (
            int(cell.split(",")[0] if "ly" in cell else cell.replace(",", "")) for cell in row
        )
        assert calls == windows * math.ceil(tickets / windows / EXPORT_PAGE), row
        assert minutes == round(calls / (10 * (1 - LEFT_TO_LIVE))), row
    assert len(rows) == 4


def test_queries_run(tmp_path: Path) -> None:
    """Every SQL statement that the README shows is understood by the ledger."""
    statements = re.findall(r"^SELECT .*;$|(?<=`)SELECT [^`]+", README, re.MULTILINE)
    assert len(statements) >= 3
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db").opened()
    with ledger.reading() as tx:
        for statement in statements:
            tx.execute(text(statement)).all()


def test_tables_and_targets_exist() -> None:
    """Ledger tables and make targets that the text mentions are there."""
    tables = {name.removeprefix("qadzd_") for name in metadata.tables}
    mentioned = set(re.findall(r"(?:FROM |`)qadzd_(wanted|ticket|audit_entry|change_item)\b", README))
    assert mentioned
    assert mentioned <= tables
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_commands_exist() -> None:
    """Each `airflow qadzd` command that the README shows is one of the group's."""
    source = (ROOT / "airflow_provider_qadzd" / "cli.py").read_text()
    for command in set(re.findall(r"airflow qadzd ([a-z-]+)", README)):
        assert f'"{command}"' in source, command


def test_collisions_name_their_settings_and_tests() -> None:
    """Each row of the collision table names settings with their default first, and a test that exists."""
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    told = set()
    for situation, _, setting, test in table("Collisions", "situation"):
        (name,) = names(test)
        assert f"def {name}(" in written, name
        if names(setting):
            option, *values = names(setting)
            assert tuple(values) == ALLOWED[option], situation
            told.add(option)
    assert told == set(ALLOWED)


def test_policies_are_options() -> None:
    """Each policy is an option of the provider, with the first allowed value as its default."""
    options = get_provider_info()["config"]["qadzd"]["options"]
    assert {name: options[name]["default"] for name in ALLOWED} == {name: one[0] for name, one in ALLOWED.items()}


def test_python_blocks_run() -> None:
    """Every Python block is a program that runs."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(ast.parse(block), "README.md", "exec"), {})
