"""What the tests of both editions share: a simulated QAD over a real socket, and sessions that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import requests

from airflow_provider_qadzd.sandbox import Sandbox, running

Sessions = Callable[[], requests.Session]


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    """One sandbox for the module, of 40 customers and 120 contacts."""
    with running(customers=40, contacts=120, tickets=0, seed=1) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(served: Sandbox) -> Sandbox:
    """The sandbox as it was at its start: a healthy instance."""
    served.post_control("reset")
    return served


@pytest.fixture
def new_session() -> Iterator[Sessions]:
    """Makes sessions, and closes them."""
    made: list[requests.Session] = []

    def make() -> requests.Session:
        made.append(requests.Session())
        return made[-1]

    yield make
    for session in made:
        session.close()
