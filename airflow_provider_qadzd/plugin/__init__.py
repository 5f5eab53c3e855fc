"""What Airflow's api-server gets from this package: the webhook receiver, mounted at /qadzd."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin


class QadzdPlugin(AirflowPlugin):
    """Loaded by every Airflow process; only the api-server asks for the app and so builds it."""

    name = "qadzd"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The receiver, which opens the ledger with its first request."""
        from airflow_provider_qadzd import config
        from airflow_provider_qadzd.plugin.receiver import receiver_app

        app = receiver_app(config.open_ledger, config.receiver_vault, config.number("freshness_seconds"))
        return [{"app": app, "url_prefix": "/qadzd", "name": "QAD sync: webhook receiver"}]
