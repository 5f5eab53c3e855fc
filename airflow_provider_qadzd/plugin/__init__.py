"""What Airflow's api-server gets from this package: the webhook receiver and two pages, mounted at /qadzd."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin


class QadzdPlugin(AirflowPlugin):
    """Loaded by every Airflow process; only the api-server asks for the app and so builds it."""

    name = "qadzd"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """One app: the pages' routes first, then the receiver, which opens the ledger with its first request."""
        from starlette.applications import Starlette
        from starlette.routing import Mount

        from airflow_provider_qadzd import config
        from airflow_provider_qadzd.plugin.connect_page import connect_routes
        from airflow_provider_qadzd.plugin.plans_page import plans_routes
        from airflow_provider_qadzd.plugin.receiver import receiver_app

        tolerance = config.number("freshness_seconds")
        receiver = receiver_app(config.open_ledger, config.receiver_vault, tolerance, _tell_airflow)
        app = Starlette(routes=[*connect_routes(), *plans_routes(), Mount("/", receiver)])
        return [{"app": app, "url_prefix": "/qadzd", "name": "QAD sync: webhook receiver, Connect page and plans"}]

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Links in the menu. Without a route of the UI's own they open a tab: consent cannot be given in a frame."""
        from airflow.configuration import conf

        root = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
        return [
            {"name": "Connect Zendesk", "href": f"{root}/qadzd/connect", "destination": "nav", "category": "admin"},
            {"name": "QAD sync plans", "href": f"{root}/qadzd/plans", "destination": "nav", "category": "browse"},
        ]


def _tell_airflow(outcome: str, seconds: float) -> None:
    """The receiver's outcomes among Airflow's own metrics. In the name, since plain StatsD drops tags."""
    from airflow.sdk.observability import stats

    stats.incr(f"qadzd.receiver.{outcome}")
    stats.timing(f"qadzd.receiver.{outcome}.seconds", timedelta(seconds=seconds))
