"""What the mounted receiver did, among Airflow's own metrics: a running api-server and a collector of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from tests.edge.api_server import api_server


class Collector(BaseHTTPRequestHandler):
    """Takes what OpenTelemetry sends, and keeps it as it came: names stand in it as plain bytes."""

    received = b""

    def do_POST(self) -> None:
        type(self).received += self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Is not logged."""


@pytest.fixture
def collector() -> Iterator[str]:
    """Where metrics are sent."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_the_mounted_receiver_did_is_among_the_metrics_of_airflow(tmp_path: Path, collector: str) -> None:
    """Each outcome is counted and timed where Airflow sends its own metrics."""
    more = {
        "AIRFLOW__METRICS__OTEL_ON": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
    }
    with api_server(tmp_path, more) as place:
        answer = requests.post(f"{place.url}/qadzd/webhooks/zendesk/nobody", json={}, timeout=30)
        assert answer.status_code == 401, answer.text
        until = time.monotonic() + 30
        expected = [b"airflow.qadzd.receiver.unsigned", b"airflow.qadzd.receiver.unsigned.seconds"]
        while not all(name in Collector.received for name in expected):
            assert time.monotonic() < until, Collector.received[-2000:]
            time.sleep(0.2)
