"""Where something can happen in the middle of a run: after each commit of the ledger, before and after each call.

A run that dies here is as dead as by SIGKILL: whatever it still tries to write or to send fails as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from sqlalchemy import Connection

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.records import Clock
from tests.sync.world import World


class Killed(BaseException):
    """The process is no more."""


class Seams:
    """Counts the points that a run passes, and lets one thing happen at one of them."""

    def __init__(self) -> None:
        self.passed, self._at, self._what = 0, 0, None
        self._dead = self._inside = False
        self.open_transactions = 0

    @contextlib.contextmanager
    def at(self, point: int, what: Callable[[], None] | None) -> Iterator[None]:
        """At that many points from now, `what` happens, or the run dies if it is None."""
        if self._inside:
            yield
            return
        self.passed, self._at, self._what, self._dead = 0, point, what, False
        try:
            yield
        finally:
            self._at, self._dead = 0, False

    def point(self) -> None:
        if self._dead:
            raise Killed
        if self._inside:
            return
        self.passed += 1
        if self.passed != self._at:
            return
        if self._what is None:
            self._dead = True
            raise Killed
        self._inside = True
        try:
            self._what()
        finally:
            self._inside = False


class MortalLedger(Ledger):
    """A ledger whose user may die after each commit."""

    def __init__(self, url: str, clock: Clock, seams: Seams) -> None:
        super().__init__(url, clock)
        self._seams = seams

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        if self._seams._dead:
            raise Killed
        self._seams.open_transactions += 1
        try:
            with super().writing() as tx:
                yield tx
        finally:
            self._seams.open_transactions -= 1
        self._seams.point()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        self._seams.open_transactions += 1
        try:
            with super().reading() as tx:
                yield tx
        finally:
            self._seams.open_transactions -= 1


class MortalAdapter(HTTPAdapter):
    """A connection whose user may die before it asks and before it hears the answer."""

    def __init__(self, seams: Seams) -> None:
        super().__init__()
        self._seams = seams

    def send(self, *args: Any, **how: Any) -> requests.Response:
        assert not self._seams.open_transactions, "a ledger transaction is open during a network call"
        self._seams.point()
        answer = super().send(*args, **how)
        # Read to its end, or the connection would be left behind half read.
        _ = answer.content
        self._seams.point()
        return answer


class MortalWorld(World):
    """A world whose runs pass seams."""

    seams: Seams

    @contextlib.contextmanager
    def another_process(self) -> Iterator[None]:
        """For this long, everything is done through clients of their own, as another process has them."""
        mine = self.zendesk, self.qad
        self.zendesk, self.qad = self.zendesk_client(), self.qad_client()
        try:
            yield
        finally:
            self.zendesk, self.qad = mine

    def session(self) -> requests.Session:
        made = super().session()
        made.mount("http://", MortalAdapter(self.seams))
        return made
