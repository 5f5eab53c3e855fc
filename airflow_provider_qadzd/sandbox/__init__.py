"""A sandbox of both systems: Zendesk at the root, QAD at `/clouderp` and `/qxi`, control at `/_sandbox`.

It behaves as the real ones are seen to behave, oddities included, and holds invented data only. Nothing in it
leaves the machine but the webhooks that it is asked to send. It imports nothing of the rest of this package.

    from airflow_provider_qadzd.sandbox import running

    with running(customers=40, contacts=120, tickets=200, seed=1) as sandbox:
        print(sandbox.url)
"""

from __future__ import annotations

from .app import create_app
from .serve import Sandbox, running
from .state import Settings, Size, State

__all__ = ["Sandbox", "Settings", "Size", "State", "create_app", "running"]
