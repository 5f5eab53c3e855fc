"""Every account's signing secrets, held in memory, so that a forged request costs no query.

They are read anew now and then, one reading at a time, while deliveries go on being judged by what is known. A reading
that fails is not tried again for two seconds either: a ledger that is away is not asked by every request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from airflow_provider_qadzd.errors import QadzdError, TryLater
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets, Vault

FRESH_FOR = 30.0
AGAIN_AFTER = 2.0
"""Seconds before they are read again because a signature fitted none: one reading, however many forgeries."""
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """An account of a ledger, and every secret that may have signed for it: two while its webhook is replaced."""

    ledger: Ledger
    account_id: int
    slug: str
    secrets: tuple[str, ...]


class HeldSecrets:
    """The ledger, opened at the first reading, and what was read from it. To be used in one event loop."""

    def __init__(
        self, open_ledger: Callable[[], Ledger], open_vault: Callable[[], Vault], executor: Executor
    ) -> None:  # fmt: skip
        self._open_ledger, self._open_vault, self._executor = open_ledger, open_vault, executor
        self._by_slug: Mapping[str, Held] | None = None
        self._ended_at = float("-inf")
        self._reading: asyncio.Future[Mapping[str, Held]] | None = None
        self._failure: QadzdError | None = None
        self._ledger: Ledger | None = None

    async def of(self, slug: str) -> Held | None:
        """The account of that slug, None if none is known. The first time, raises why nothing can be read."""
        if self._by_slug is None:
            await self.read_again(AGAIN_AFTER)
        elif self._age() > FRESH_FOR:
            self._begin()
        return (self._by_slug or {}).get(slug)

    async def read_again(self, older_than: float) -> bool:
        """Read them anew if the last reading is that many seconds old; whether it was. Raises why it failed."""
        again = self._age() > older_than
        if again:
            reading = self._begin()
            await asyncio.wait({reading}, timeout=_PATIENCE)
            if not reading.done():
                raise TryLater("The ledger does not answer.", wait=AGAIN_AFTER)
        if self._failure is not None:
            raise self._failure
        return again

    def _age(self) -> float:
        return time.monotonic() - self._ended_at

    def _begin(self) -> asyncio.Future[Mapping[str, Held]]:
        """The reading that is under way, begun if there was none."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().run_in_executor(self._executor, self._read)
            self._reading.add_done_callback(self._end)
        return self._reading

    def _end(self, reading: asyncio.Future[Mapping[str, Held]]) -> None:
        self._reading, self._ended_at, self._failure = None, time.monotonic(), None
        if reading.cancelled():
            return
        error = reading.exception()
        if error is None:
            self._by_slug = reading.result()
        elif isinstance(error, QadzdError):
            self._failure = error
        else:
            self._failure = TryLater(f"The secrets cannot be read ({type(error).__name__}).", wait=AGAIN_AFTER)

    def _read(self) -> Mapping[str, Held]:
        self._ledger = ledger = self._ledger or self._open_ledger()
        vault = self._open_vault()
        return {
            account.slug: Held(
                ledger, account.account_id, account.slug,
                tuple(Secrets(ledger, vault, account.holder).with_prefix(SIGNING).values()),
            )
            for account in identity.onboarded_accounts(ledger)
        }  # fmt: skip
