"""The demo's steps, in order: connect, onboard, sync, export, drop events, and look at what came of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import requests

from .processes import Failed, Progress
from .report import Asked, Line, compare, read_ledger, staff_of
from .runs import Runs
from .standalone import Airflow

DAY = timedelta(days=1)
HISTORY_DAYS = 3
ACCOUNTS = "qadzd_sync_accounts"
STRANGER = "somebody.new@freemail.example"


class SandboxControl:
    """The sandbox's own interface, which is no part of what is synced."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, path: str) -> Any:
        return self._answer(self._session.get(f"{self.url}/_sandbox/{path}", timeout=60))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._answer(self._session.post(f"{self.url}/_sandbox/{path}", json=body, timeout=120))

    def answers(self) -> tuple[bool | None, str]:
        """Whether it is up yet."""
        try:
            return bool(self.get("stats")) or None, ""
        except requests.ConnectionError:
            return None, "it does not answer yet"

    def close(self) -> None:
        self._session.close()

    def _answer(self, answer: requests.Response) -> Any:
        if not answer.ok:
            raise Failed(f"The sandbox answered {answer.status_code} to {answer.url}: {answer.text[:300]}")
        return answer.json()


class Story:
    """Walks through the demo. What it did is kept in it, for the comparison at the end."""

    def __init__(self, airflow: Airflow, sandbox: SandboxControl, progress: Progress, qad: str = "rest") -> None:
        self.qad, self.airflow, self.sandbox, self.progress = qad, airflow, sandbox, progress
        self.runs = Runs(airflow)
        self.staff_before = staff_of(sandbox.get("state"))
        self.since = _now()
        self.accepted: set[str] = set()
        self.refused: set[str] = set()
        self.repeated: set[str] = set()
        self.told: set[int] = set()
        self.later = (0, 0, 0)

    def run(self) -> list[Line]:
        """Every step; the lines of the table."""
        # As with Zendesk's High Volume add-on: with 10 exports a minute the past waits for most of them.
        self.sandbox.post("limits", {"incremental_per_minute": 30})
        self.connect()
        self.onboard()
        first = self.sync()
        exports = self.export()
        self.drop_events()
        self.finish_exports(exports)
        self.later_runs(*first)
        self.wait_for_drain()
        return self.report()

    # -- before the sync -----------------------------------------------------------------------------------------------

    def connect(self, conn_id: str = "zendesk_connect") -> None:
        """Obtain a token by authorization code and PKCE, as a person with a browser would."""
        self.progress.say(f"airflow qadzd connect {conn_id}: authorization code with PKCE")
        log = self.airflow.place.folder / "connect.log"
        command = [str(Path(sys.executable).parent / "airflow"), "qadzd", "connect", conn_id]
        with log.open("w") as errors, subprocess.Popen(
            command, env=dict(self.airflow.environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            text=True,
        ) as process:  # fmt: skip
            # It waits for an answer as long as it is let.
            patience = threading.Timer(90, process.kill)
            patience.start()
            try:
                said = self._consent(process)
                code = process.wait()
            finally:
                patience.cancel()
                process.kill()
        if code != 0:
            raise Failed(f"airflow qadzd connect ended with code {code}.\n{said}\n{log.read_text()[-2000:]}")
        self.progress.say(f"  {said.strip().splitlines()[-1]}")

    def _consent(self, process: subprocess.Popen[str]) -> str:
        """Open the address that the command prints; the sandbox agrees at once. What the command said at last.

        Where a browser would then be sent, nobody goes: that address is pasted into the command.
        """
        said: list[str] = []
        for line in process.stdout or ():
            said.append(line)
            if "/oauth/authorizations/new?" in line and process.stdin is not None:
                with requests.Session() as browser:
                    browser.trust_env = False
                    answer = browser.get(line.strip(), timeout=60, allow_redirects=False)
                if "location" not in answer.headers:
                    raise Failed(f"The consent page answered with {answer.status_code}.")
                process.stdin.write(f"{answer.headers['location']}\n")
                process.stdin.flush()
                said.clear()
        return "".join(said) or "It said nothing."

    def onboard(self) -> None:
        """Fields, webhook and signing secret; from now on deliveries wake `qadzd_ticket_events`."""
        self.progress.say("qadzd_onboard: the fields that we write, the webhook, its signing secret into the vault")
        self.runs.unpause("qadzd_onboard")
        # A watcher starts when its DAG is read again after this.
        self.runs.unpause("qadzd_ticket_events")
        run = self.runs.finish("qadzd_onboard", self.runs.trigger("qadzd_onboard", "demo"))
        self.since = _moment(run["end_date"]).replace(hour=0, minute=0, second=0, microsecond=0)

    # -- out -----------------------------------------------------------------------------------------------------------

    def sync(self) -> tuple[datetime, int, int]:
        """QAD customers and contacts into Zendesk. When the first run was over, and what was written by then."""
        self.progress.say("qadzd_sync_accounts: QAD customers and contacts become organizations and users")
        self.runs.trigger(ACCOUNTS, "demo")
        self.runs.unpause(ACCOUNTS)

        # The scheduler may have a run of its own ready, which then comes first.
        def ask() -> tuple[str | None, str]:
            over = [row["dag_run_id"] for row in self.runs.newest(ACCOUNTS) if row["end_date"]]
            return (over[-1], "") if over else (None, self.runs.standing(ACCOUNTS))

        run_id = self.progress.until("the first run", ask, 240)
        first = self.runs.finish(ACCOUNTS, run_id)
        written = self._written()
        self._tell(run_id)
        return _moment(first["end_date"]), *written

    def later_runs(self, ended: datetime, writes: int, changes: int) -> None:
        """See that every later run writes nothing: the one made by hand, and one that the scheduler started."""
        self.progress.say("qadzd_sync_accounts again: by hand, and by its schedule, once a minute in this demo")

        def ask() -> tuple[str | None, str]:
            started = [row for row in self.runs.newest(ACCOUNTS) if row["start_date"]]
            later = [row for row in started if _moment(row["start_date"]) >= ended and row["run_type"] == "scheduled"]
            return (later[-1]["dag_run_id"] if later else None), "none since the first run"

        scheduled = self.progress.until("the scheduler's tick", ask, 120)
        said = 0
        for run_id in ("demo", scheduled):
            # The run made by hand may have been the first one.
            if _moment(self.runs.finish(ACCOUNTS, run_id)["end_date"]) > ended:
                said += self._tell(run_id)
        now_writes, now_changes = self._written()
        self.later = (now_writes - writes, now_changes - changes, said)

    def _tell(self, run_id: str) -> int:
        """Say what a run of the sync did; how many writes it made by its own account."""
        said = self.runs.result(ACCOUNTS, run_id, "apply")
        self.progress.say(f"  {run_id}: {said['zendesk_writes']} writes in Zendesk")
        for kind, outcomes in sorted(said["outcomes"].items()):
            self.progress.say(f"    {kind}: " + ", ".join(f"{n} {name}" for name, n in sorted(outcomes.items())))
        return int(said["zendesk_writes"])

    def _written(self) -> tuple[int, int]:
        return int(self.sandbox.get("stats")["zendesk_writes"]), read_ledger(self.airflow.place.ledger).changes

    # -- in ------------------------------------------------------------------------------------------------------------

    def export(self) -> list[tuple[str, str]]:
        """Start the live export, and the history of the days before today. The runs to wait for."""
        self.progress.say(f"qadzd_export_tickets, and qadzd_ticket_history for {HISTORY_DAYS} past days")
        # A window may be exported once it has been over for a while: that matters just after midnight UTC.
        settled = self.since + timedelta(seconds=150)
        self.progress.until("yesterday to be over for good", lambda: (_now() > settled or None, "UTC"), 200)
        runs = [("qadzd_export_tickets", self.runs.trigger("qadzd_export_tickets", "demo"))]
        for back in range(HISTORY_DAYS, 0, -1):
            start, end = self.since - back * DAY, self.since - (back - 1) * DAY
            # Made before the DAG is unpaused: its own run for yesterday would come first, and one at a time.
            self.runs.trigger(
                "qadzd_ticket_history", f"demo_{start:%Y-%m-%d}", logical_date=_text(start),
                data_interval_start=_text(start), data_interval_end=_text(end),
            )  # fmt: skip
            runs.append(("qadzd_ticket_history", f"demo_{start:%Y-%m-%d}"))
        for dag_id in ("qadzd_export_tickets", "qadzd_ticket_history"):
            self.runs.unpause(dag_id)
        return runs

    def finish_exports(self, runs: list[tuple[str, str]]) -> None:
        """Wait for the exports."""
        for dag_id, run_id in runs:
            self.runs.finish(dag_id, run_id)
        self.progress.say("  exports are done")

    def drop_events(self) -> None:
        """Tickets change for real, and events are delivered again: rightly signed, forged, stale, and twice."""
        state = self.sandbox.get("state")
        contacts = {row["id"]: row["email"] for row in state["users"] if row["external_id"] and row["email"]}
        usable = [row for row in state["tickets"] if row["status"] in ("new", "open", "pending", "hold")]
        open_ones = [row for row in usable if row["requester_id"] in contacts]
        # No export brings these: what the ledger knows of them, it knows from a delivery.
        old = [row["id"] for row in open_ones if row["generated_timestamp"] < self._exported_since().timestamp()]
        if len(old) < 5:
            raise Failed("The sandbox has fewer than five old open tickets of known contacts.")
        one, two, three, four, five = old[:5]
        for body in (
            {"requester_email": next(iter(contacts.values())), "subject": "Where is our order?"},
            {"requester_email": STRANGER, "subject": "Do you sell valves?"},
            {"id": one, "tags": ["seen_in_the_demo"]},
            {"id": two, "status": "solved"},
        ):
            answer = self.sandbox.post("tickets", {**body, "wait": True})
            self.accepted |= _event_ids(answer)
            self.told.add(answer["ticket"]["id"])
        for kind in ("created", "updated", "solved"):
            self.accepted |= self._deliver(three, kind)
        self.repeated |= self._deliver(four, "updated", "twice")
        self.accepted |= self.repeated
        self.told |= {three, four}
        self.refused |= self._deliver(five, "solved", "forged")
        self.refused |= self._deliver(five, "updated", "stale")
        self.progress.say(
            f"{len(self.accepted)} ticket events delivered to {self.airflow.place.url}, one of them twice; "
            f"{len(self.refused)} more, one forged and one stale"
        )

    def _deliver(self, ticket: int, kind: str, tamper: str | None = None) -> set[str]:
        return _event_ids(self.sandbox.post("webhooks/deliver", {"ticket_id": ticket, "type": kind, "tamper": tamper}))

    def wait_for_drain(self) -> None:
        """The accepted deliveries are fetched by `qadzd_ticket_events`, which they have woken."""
        self.progress.say("qadzd_ticket_events drains the inbox")

        def ask() -> tuple[bool | None, str]:
            inbox = read_ledger(self.airflow.place.ledger).inbox
            left = [key for key in self.accepted | set(inbox) if inbox.get(key, "pending") == "pending"]
            return (None, f"{len(left)} of {len(inbox)} deliveries to go") if left else (True, "")

        self.progress.until("the inbox to be drained", ask, 120)

    # -- the end -------------------------------------------------------------------------------------------------------

    def report(self) -> list[Line]:
        """Read both sides and compare."""
        asked = Asked(
            self.staff_before, self._exported_since().timestamp(), frozenset(self.told), frozenset(self.accepted),
            frozenset(self.refused), frozenset(self.repeated), *self.later, qad=self.qad,
        )  # fmt: skip
        kept = read_ledger(self.airflow.place.ledger)
        return compare(self.sandbox.get("state"), self.sandbox.get("stats"), kept, asked)

    def _exported_since(self) -> datetime:
        """Where the first window of history begins; the live export begins where the last one ends."""
        return self.since - HISTORY_DAYS * DAY


def _event_ids(answer: Mapping[str, Any]) -> set[str]:
    found = {row["event_id"] for row in answer["deliveries"]}
    if not found:
        raise Failed("A ticket changed and no webhook was called: there is none, or it listens to nothing.")
    return found


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
