"""Sealed slips of paper that the browser carries for us: who wrote a form, and what came of it.

Any api-server worker reads what another has written, as they share the vault's keys; nobody else can read or forge one.
A slip is for one purpose, one user and a limited time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.vault import Vault
from airflow_provider_qadzd.records import Clock, SystemClock

_SKEW = 30.0
"""Seconds by which the clocks of two api-servers may differ."""


@dataclass(frozen=True, slots=True)
class Slips:
    """Writes and reads slips with the vault's keys."""

    vault: Vault
    clock: Clock = SystemClock()  # noqa: RUF009 - stateless

    def write(self, purpose: str, user: str, **content: str) -> str:
        """A slip for that user, as text for a form field or a cookie."""
        slip = {"purpose": purpose, "user": user, "written": self.clock.time(), "content": content}
        sealed_by, sealed = self.vault.seal(json.dumps(slip))
        return f"{sealed_by}.{sealed.decode()}"

    def read(self, text: str, purpose: str, user: str, seconds: float) -> dict[str, str] | None:
        """What a slip says; None if it is not ours, for another purpose or user, or older than `seconds`."""
        sealed_by, _, sealed = text.partition(".")
        try:
            slip: dict[str, Any] = json.loads(self.vault.open(sealed_by, sealed.encode(), "slip"))
        except (FixFirst, ValueError):
            return None
        fits = (slip.get("purpose"), slip.get("user")) == (purpose, user)
        if not fits or not -_SKEW <= self.clock.time() - slip["written"] <= seconds:
            return None
        return dict(slip["content"])
