"""Where all examples begin: one sandbox and one folder for ledgers, put back in milliseconds."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.sandbox import Sandbox, Size
from airflow_provider_qadzd.sandbox.qad_store import QadStore
from airflow_provider_qadzd.sandbox.zendesk.store import Store
from tests.sync.machine.hands import made_in
from tests.sync.machine.seams import MortalLedger, MortalWorld, Seams
from tests.sync.world import SandboxClock, World, world_of

SIZE = (8, 10, 6)
"""Customers, contacts and tickets: all of the seed's troubles, few records."""
NOW = 1_800_000_000.0


class Stage:
    """Where all examples begin: both systems of one size before the first run and after it, as often as needed.

    Time stands still unless somebody lets it pass, so that an example goes the same way each time.
    """

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox, self.folder = sandbox, folder
        self.examples = self.steps = self.worlds = 0
        self.met: Counter[str] = Counter()
        """What clean runs found: changes left open by state, outcomes and reasons, killed runs."""
        self.beginnings = {synced: self._beginning(synced) for synced in (False, True)}
        self.ledger: sqlite3.Connection

    def _beginning(self, synced: bool) -> tuple[Path, Store, QadStore, float]:
        path = self.folder / f"{synced}.db"
        Ledger(f"sqlite:///{path}").opened().engine.dispose()
        with world_of(self.sandbox, path, SIZE) as world:
            state = self.sandbox.state
            state.clock.freeze()
            self.by_hand = made_in(state)
            if synced:
                world.sync()
            return path, deepcopy(state.zendesk), deepcopy(state.qad), round(state.now) + 1.0

    def sql(self, asked: str, *values: Any) -> list[Any]:
        return self.ledger.execute(asked, values).fetchall()

    def world(self, *, synced: bool) -> MortalWorld:
        """A new world from one of the two beginnings."""
        begun, zendesk, qad, now = self.beginnings[synced]
        self.worlds += 1
        path = Path(shutil.copy(begun, self.folder / f"{self.worlds}.db"))
        state = self.sandbox.state
        with state.lock:
            state.size = Size(0, 0, 0)
            state.reset()
            state.limits.rates.enabled = False
            state.zendesk, state.qad = deepcopy(zendesk), deepcopy(qad)
            state.clock.freeze()
            state.clock.set(now)
        clock = SandboxClock(self.sandbox)
        MortalWorld.seams = Seams()
        # It also keeps the file open, so that SQLite need not fold its log in whenever a connection is closed.
        self.ledger = sqlite3.connect(path, check_same_thread=False)
        return MortalWorld(self.sandbox, MortalLedger(f"sqlite:///{path}", clock, MortalWorld.seams), clock)

    def strike(self, world: World) -> None:
        """Take a world down."""
        world.close()
        self.ledger.close()
        for file in self.folder.glob(f"{self.worlds}.db*"):
            file.unlink()
