"""`python -m airflow_provider_qadzd.sandbox.demo`: the whole path, in a real Airflow, against the sandbox.

With `--once` it compares, stops everything that it started, and ends with 0, or with 1 and what differs. Without, it
goes on serving until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from .processes import Failed, Progress, Service, alone_in, end_forgotten, free_ports
from .report import EDITIONS, Line, table
from .standalone import USER, Airflow, Place, airflow_environment, clean_environment
from .story import SandboxControl, Story

PACKAGE = Path(__file__).resolve().parents[2]
SIZE = ("--customers", "40", "--contacts", "120", "--tickets", "200", "--seed", "7", "--job-delay", "1")


def main() -> int:
    """Run the demo; 0 if both sides agree."""
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_qadzd.sandbox.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="verify, stop everything, and exit")
    parser.add_argument("--qad", choices=EDITIONS, default="rest", help="how QAD is read: %(default)s")
    parser.add_argument("--folder", type=Path, default=folder_of_demo(), help="for homes and logs: %(default)s")
    given = parser.parse_args()
    # A shell that starts this in the background ignores SIGINT for it and for all that it starts; Airflow needs it.
    _on_signals(_interrupt)
    try:
        with ExitStack() as stack:
            return demo(stack, given.folder.resolve(), given.once, given.qad)
    except Failed as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\nStopped before the end.", flush=True)
        return 130


def demo(stack: ExitStack, folder: Path, once: bool, qad: str = "rest") -> int:
    """Start both, tell the story, compare, and serve if asked to. What `stack` holds is stopped at the end."""
    progress = Progress()
    stack.enter_context(alone_in(folder))
    forgotten = end_forgotten(folder)
    if forgotten:
        progress.say(f"ended {forgotten} processes of an earlier demo that was killed")
    shutil.rmtree(folder / "airflow", ignore_errors=True)
    sandbox_port, api, worker_log, trigger_log = free_ports(4)
    place = Place(folder, folder_of_dags(), api, worker_log, trigger_log)
    sandbox = SandboxControl(f"http://127.0.0.1:{sandbox_port}")
    told = {**connections(sandbox.url, qad), **schedules(place.url)}
    airflow = Airflow(place, airflow_environment(place, told), progress)
    # Named last, done first: the services end before the demo says so.
    stack.callback(sandbox.close)
    simulated = sandbox_service(folder, sandbox_port)
    stack.callback(simulated.stop)
    simulated.start()
    progress.watch(simulated)
    stack.callback(airflow.stop)
    progress.say(
        f"starting the sandbox at {sandbox.url}, QAD over {qad}, and Airflow at {place.url}, home {place.home}"
    )
    airflow.start()
    # An impatient second Ctrl-C must not leave anything running.
    stack.callback(_on_signals, signal.SIG_IGN)
    progress.until("the sandbox", sandbox.answers, 60)
    story = Story(airflow, sandbox, progress, qad)
    airflow.wait_until_ready()
    progress.say("Airflow is healthy")
    code = verdict(story.run())
    if not once:
        with suppress(KeyboardInterrupt):
            serve(airflow, sandbox)
    progress.say("stopping Airflow and the sandbox")
    return code


def verdict(lines: list[Line]) -> int:
    """Print the table and what follows from it; 0 if every line agrees, else 1."""
    differing = [line.what.strip() for line in lines if line.differences]
    print(f"\n{table(lines)}\n", flush=True)
    if differing:
        print(f"The sandbox and the ledger differ in: {'; '.join(differing)}.\n", flush=True)
        return 1
    print("The sandbox and the ledger agree in every line.\n", flush=True)
    return 0


def serve(airflow: Airflow, sandbox: SandboxControl) -> None:
    """Say where everything is, and go on until Ctrl-C."""
    print(
        f"\nAirflow:  {airflow.place.url}   user {USER}, password {airflow.place.password}\n"
        f"Sandbox:  {sandbox.url}/_sandbox/state   (both systems, as they are now)\n"
        f"Ledger:   {airflow.place.ledger}\n"
        "The connections are environment variables of this demo, so Admin > Connections does not list them.\n"
        "Accounts and exports go on by their schedules, once a minute. Ctrl-C stops everything.\n",
        flush=True,
    )
    while True:
        airflow.service.must_run()
        time.sleep(1)


def folder_of_demo() -> Path:
    """`.demo` in the clone; in the current folder where the package was installed without one."""
    clone = PACKAGE.parent
    return (clone if (clone / "pyproject.toml").exists() else Path.cwd()) / ".demo"


def folder_of_dags() -> Path:
    """The DAG files: inside the package when it was installed as a wheel, beside it in a clone."""
    for folder in (PACKAGE / "dags", PACKAGE.parent / "dags"):
        if folder.is_dir():
            return folder
    raise Failed(f"There are no DAG files in {PACKAGE / 'dags'} nor in {PACKAGE.parent / 'dags'}.")


def sandbox_service(folder: Path, port: int) -> Service:
    """The sandbox as a process of its own."""
    command = [sys.executable, "-m", "airflow_provider_qadzd.sandbox", "--port", str(port), *SIZE]
    path = {"PYTHONPATH": str(PACKAGE.parent)}
    return Service("The sandbox", command, {**clean_environment(), **path}, folder / "sandbox.log", signal.SIGINT)


def connections(sandbox: str, qad: str = "rest") -> dict[str, str]:
    """The three connections, all to the sandbox, as environment variables; `qad` is the edition of QAD's."""
    login = {"login": "sandbox", "password": "sandbox"}
    zendesk = {"conn_type": "zendesk_support", "host": sandbox, **login}
    by_code = {"auth": "authorization_code", "scope": "read write"}
    of_qad = {
        "rest": {"conn_type": "qad", "host": f"{sandbox}/clouderp", "extra": {"client_id": "sandbox"}},
        "qxtend": {
            "conn_type": "qad_qxtend", "host": f"{sandbox}/qxi/services/QdocWebService",
            "extra": {"profile": "query_qdoc", "receiver": "QADERP", "domains": "DEMO1"},
        },
    }  # fmt: skip
    return _as_variables(
        {
            "QAD_DEFAULT": {"login": "svc_zendesk", "password": "sandbox", **of_qad[qad]},
            "ZENDESK_DEFAULT": {**zendesk, "extra": {"auth": "client_credentials", "scope": "read write"}},
            "ZENDESK_CONNECT": {**zendesk, "extra": by_code},
        }
    )


def _as_variables(given: Mapping[str, object]) -> dict[str, str]:
    return {f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in given.items()}


def schedules(receiver: str) -> dict[str, str]:
    """The demo's own settings: a minute where the default is five or ten, and where Zendesk delivers to."""
    settings = {
        "ACCOUNTS_SCHEDULE": "* * * * *",
        "EXPORT_SCHEDULE": "* * * * *",
        "RECEIVER_URL": receiver,
        "SETTLE_SECONDS": "60",
    }
    return {f"AIRFLOW__QADZD__{name}": value for name, value in settings.items()}


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What runs under nohup outlives its terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
