"""What waits for Zendesk's bulk jobs in the triggerer, so that no worker slot is held while they run.

It only waits: the task reads the jobs' results itself when it resumes, from the change rows, also after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_qadzd import config
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 30.0


class JobsEnd(BaseTrigger):
    """Fires once none of these jobs runs any more, or after `patience` seconds.

    It looks after `pause` seconds, then less and less often. What goes wrong is told and waited out; a job that Zendesk
    does not know any more counts as ended.
    """

    def __init__(
        self, zendesk_conn_id: str, job_ids: Sequence[str], pause: float = 2.0, patience: float = 600.0
    ) -> None:  # fmt: skip
        super().__init__()
        self.zendesk_conn_id, self.job_ids = zendesk_conn_id, list(job_ids)
        self.pause, self.patience = pause, patience

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        names = ("zendesk_conn_id", "job_ids", "pause", "patience")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, then the end."""
        hook: ZendeskHook | None = None
        until, pause = time.monotonic() + self.patience, self.pause
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            try:
                hook = hook or await self._hook()
                running = await asyncio.to_thread(self._running, hook)
                if not running:
                    break
                log.info("%s of %s jobs still run in Zendesk.", running, len(self.job_ids))
            except asyncio.CancelledError:
                raise
            except Exception as error:
                hook = None
                log.warning("Cannot ask Zendesk for its jobs, trying again in %.0f s: %s", pause, error)
        yield TriggerEvent({"jobs": self.job_ids})

    async def _hook(self) -> ZendeskHook:
        found = await BaseHook.aget_connection(self.zendesk_conn_id)
        return ZendeskHook(self.zendesk_conn_id, await config.open_ledger_async(), found)

    def _running(self, hook: ZendeskHook) -> int:
        return sum(not job.done for job in hook.client.jobs.show_many(self.job_ids))
