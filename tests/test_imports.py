"""The one import rule: what each layer may import, read from the code without running it.

Imports inside functions and for type checkers count as well. A module that is in no layer fails, so that a new folder
has to be given its place here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "airflow_provider_qadzd"

LAYERS = {
    "package": ("__init__",),
    "words": ("errors", "findings", "records", "settings"),
    "qad": ("qad",),
    "zendesk": ("zendesk",),
    "decisions": (
        "sync.mapping", "sync.ownership", "sync.template", "sync.plan", "sync.policies", "sync.match", "sync.reasons",
    ),
    "mapping file": ("sync.mapping_file",),
    "doing": (
        "sync.__init__", "sync.absence", "sync.collect", "sync.mirror", "sync.moves", "sync.draft", "sync.pairs",
        "sync.singly", "sync.apply", "sync.estimate", "sync.review", "sync.showing", "sync.story", "sync.forget",
        "sync.receive", "sync.export", "sync.ticket_files", "sync.ticket_organizations", "sync.onboard",
        "sync.webhooks", "sync.scopes", "sync.doctor",
        "sync.doctor_setup", "sync.fields", "sync.drift", "sync.rebuild", "sync.rekey",
    ),
    "memory": ("ledger",),
    "receiver": ("plugin.receiver", "plugin.held_secrets", "plugin.group_commit", "plugin.receiver_counts"),
    "edge": (
        "hooks", "operators", "sensors", "triggers", "plugin", "cli", "cli_onboard", "cli_plan", "cli_records",
        "cli_drift",
        "reviewing", "provider_info", "retry", "config", "doctor",
    ),
    "sandbox": ("sandbox",),
    "dags": ("dags",),
}  # fmt: skip
"""Each layer's modules, by the start of their names; the longest start counts."""

_BELOW = {"words", "qad", "zendesk", "decisions", "mapping file", "doing", "memory"}
_DIALECT = {"requests", "cryptography", "msgspec", "tenacity"}
MAY_IMPORT = {
    "package": set[str](),
    "words": {"words", "msgspec"},
    "qad": {"words", "qad", *_DIALECT, "msgspec", "jinja2", "lxml", "python_multipart"},
    "zendesk": {"words", "zendesk", *_DIALECT},
    "decisions": {"words", "decisions"},
    "mapping file": {"words", "decisions", "yaml"},
    "doing": {*_BELOW, "msgspec"},
    "memory": {"words", "memory", "sqlalchemy", "alembic", "cryptography", "msgspec"},
    "receiver": {*_BELOW, "receiver", "starlette"},
    "edge": {
        *_BELOW, "package", "receiver", "edge", "airflow", "cryptography", "jinja2", "pendulum", "requests",
        "sqlalchemy", "starlette", "uvicorn",
    },
    "sandbox": {"package", "sandbox", "starlette", "uvicorn", "msgspec", "requests", "cryptography"},
    "dags": {"airflow", "edge", "pendulum"},
}  # fmt: skip
"""What each layer imports, beside the standard library: layers of ours, and packages of others."""

MODULES = sorted([*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "dags").glob("*.py")])


def name_of(path: Path) -> str:
    """A file's module name within the package: `ledger.store`, `ledger.__init__`, `dags.qadzd_onboard`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[1:] if parts[0] == PACKAGE else parts)


def layer_of(name: str) -> str:
    """The layer of one of our modules; KeyError if it has none."""
    starts = [(start, layer) for layer, names in LAYERS.items() for start in names]
    fitting = [(start, layer) for start, layer in starts if f"{name}.".startswith(f"{start}.")]
    if not fitting:
        raise KeyError(name)
    return max(fitting, key=lambda one: len(one[0]))[1]


def imported_by(code: str, name: str) -> Iterator[str]:
    """The full name of everything that the code of our module `name` imports, wherever it stands."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = [PACKAGE, *name.split(".")][: -node.level] if node.level else []
            within = ".".join([*folder, *([node.module] if node.module else [])])
            yield from (f"{within}.{alias.name}" for alias in node.names)


def ours(full_name: str) -> str:
    """A name of our package as the module it is in: `ledger.Ledger` is `ledger.__init__`."""
    parts = full_name.split(".")[1:]
    while parts:
        if (ROOT / PACKAGE).joinpath(*parts).with_suffix(".py").is_file():
            return ".".join(parts)
        if (ROOT / PACKAGE).joinpath(*parts).is_dir():
            return ".".join([*parts, "__init__"])
        parts.pop()
    return "__init__"


def asked_for(full_name: str) -> str:
    """What a rule would have to name: a layer of ours or another package; empty for the standard library."""
    top = full_name.split(".")[0]
    if top == PACKAGE:
        return layer_of(ours(full_name))
    return "" if top in sys.stdlib_module_names else top


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    """Every import of the package and of the DAGs is allowed by the table above."""
    name = name_of(path)
    layer = layer_of(name)
    imported = set(imported_by(path.read_text(encoding="utf-8"), name))
    wrong = {name for name in imported if asked_for(name) not in MAY_IMPORT[layer] | {""}}
    assert not wrong, f"{layer} may not import {', '.join(sorted(wrong))}"


def test_only_the_edge_and_the_dags_import_airflow() -> None:
    """Everything that matters runs in a plain interpreter."""
    assert {layer for layer, allowed in MAY_IMPORT.items() if "airflow" in allowed} == {"edge", "dags"}


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        pytest.param("import requests.adapters", "requests", id="an import"),
        pytest.param("def f():\n    from airflow.sdk import DAG", "airflow", id="inside a function"),
        pytest.param("from airflow_provider_qadzd.ledger import accounts", "memory", id="a module of a folder"),
        pytest.param("from airflow_provider_qadzd import ledger", "memory", id="a folder"),
        pytest.param("from airflow_provider_qadzd.sync.plan import decide", "decisions", id="a decision"),
        pytest.param("from airflow_provider_qadzd.sync.apply import Applier", "doing", id="a name of a module"),
        pytest.param("from . import oauth", "zendesk", id="beside"),
        pytest.param("from ..ledger.store import iso", "memory", id="above"),
    ],
)
def test_the_rule_sees_every_kind_of_import(code: str, wrong: str) -> None:
    """An import is found wherever and however it is written."""
    assert [asked_for(name) for name in imported_by(code, "zendesk.client")] == [wrong]


def test_a_module_without_a_layer_is_told() -> None:
    """A new folder has no layer until it is given one."""
    with pytest.raises(KeyError, match=r"utils\.text"):
        layer_of("utils.text")
