"""`--help` tells the whole language of the control interface."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields

import pytest

from airflow_provider_qadzd.sandbox import Sandbox, Settings, manual
from airflow_provider_qadzd.sandbox.faults import ACTIONS, Fault
from airflow_provider_qadzd.sandbox.zendesk.limits import Rates
from airflow_provider_qadzd.sandbox.zendesk.oddities import CHOICES, Oddities


def names(kind: type) -> set[str]:
    """The fields of a dataclass."""
    return {item.name for item in fields(kind)}


@pytest.fixture(scope="module")
def text() -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "airflow_provider_qadzd.sandbox", "--help"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (manual.FAULTS, names(Fault) - {"seen", "fired"}),
        (manual.ACTIONS, set(ACTIONS)),
        (manual.SETTINGS, names(Settings)),
        (manual.LIMITS, names(Rates)),
    ],
    ids=["faults", "actions", "settings", "limits"],
)
def test_every_word_is_in_the_help(text: str, told: dict[str, str], known: set[str]) -> None:
    """What can be said is told, and nothing else, each on a line of its own."""
    assert set(told) == known
    for name in known:
        assert f"\n  {name} " in text


def test_every_oddity_of_a_job_is_told() -> None:
    """A fault's job takes the settings of jobs without their prefix, and the help names each with its values."""
    assert {f"job_{name}" for name in names(Oddities)} <= set(manual.SETTINGS)
    assert all(name in manual.FAULTS["job"] for name in names(Oddities))
    for name, values in CHOICES.items():
        assert all(str(value or "null") in manual.SETTINGS[f"job_{name}"] for value in values)


def test_the_examples_are_accepted(sandbox: Sandbox) -> None:
    """Each body in the examples is one that the control interface takes."""
    commands = re.findall(r"URL/_sandbox/(\w+) -d '(.*?)'", manual.EXAMPLES, re.DOTALL)
    assert len(commands) >= 3
    for path, body in commands:
        sandbox.post_control(path, json.loads(body))
