"""`airflow qadzd`: what a person does at a terminal. Definitions first, then commands; heavy imports inside them."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

from airflow_provider_qadzd import cli_drift, cli_plan, cli_records
from airflow_provider_qadzd.errors import QadzdError

_HOST = Arg(("--host",), help="Address to listen on", default="127.0.0.1")
_PORT = Arg(("--port",), help="Port to listen on", type=int, default=8081)
_TO = Arg(("--to",), help="Folder to copy the DAG files to", required=True)
_CONN = Arg(("conn_id",), help="Zendesk connection id")
_QAD_CONN = Arg(("conn_id",), help="QAD connection id", nargs="?", default="qad_default")
_DISCONNECT = Arg(("--disconnect",), help="Revoke the token in Zendesk and forget it instead", action="store_true")
_FLOW = Arg(("--flow",), help="Only this flow of [qadzd] flows; every flow if not given")
_KEY = Arg(("key",), help="QAD customer or contact key, ticket id or delivery id")
_ANY_KEY = Arg(("key",), help="Such a key; without one, all reasons are counted", nargs="?")
_KIND = Arg(("--kind",), help="Which, if the key is that of both", choices=("customer", "contact"))
_YES = Arg(("--yes",), help="Do it; without this it is only said what would be done", action="store_true")
_SOME_KEY = Arg(("key",), help="Only what has this key", nargs="?")
_CHOSEN = (
    Arg(("--reason",), help="Only what came to nothing for a reason that begins so", default=""),
    Arg(("--run",), help="Only what came to nothing in this run (DAG/run id)", default=""),
    Arg(("--since",), help="Only what came to nothing from this time on (ISO 8601, UTC)", default=""),
    Arg(("--until",), help="Only what came to nothing up to this time", default=""),
)
_ONE_FLOW = Arg(("--flow",), help="Only this flow of the ledger; every flow if not given")
_CODE = Arg(("key",), help="QAD customer code")
_LIMIT = Arg(("--limit",), help="How many tickets at most", type=int, default=50)
_JSON = Arg(("--json",), help="Print JSON", action="store_true")
_NOW = Arg(("--now",), help="Look at Zendesk first; else what the last look found", action="store_true")
_SILENT = Arg(
    ("--silent-hours",), help="Hours without a delivery, while tickets change, to warn of", type=float, default=6
)


def get_commands() -> list[GroupCommand]:
    """The `qadzd` group, as Airflow's command line wants it."""
    ledger = (
        _command("upgrade", "Migrate the ledger's tables to this version", ledger_upgrade),
        _command("status", "Show where the ledger is and its tables' revision", ledger_status),
        _command("rebuild", "Find lost links again by Zendesk's external ids", cli_drift.rebuild, _FLOW),
    )
    plan = (
        _command("list", "List the newest plans", cli_plan.plan_list, cli_plan.FLOW, cli_plan.LIMIT, cli_plan.EMPTY),
        _command(
            "show", "Show what a plan would change, and why not more", cli_plan.plan_show, cli_plan.PLAN, cli_plan.FLOW,
            cli_plan.KIND, cli_plan.SEARCH, cli_plan.LIMIT, cli_plan.AFTER, cli_plan.JSON,
        ),
        _command("apply", "Approve a plan and apply it", cli_plan.plan_apply, cli_plan.NUMBER, cli_plan.SKIP),
    )  # fmt: skip
    commands = (
        GroupCommand("plan", "What a run would change, to be seen and approved", plan),
        GroupCommand("ledger", "The ledger's database", ledger),
        _command("receiver", "Serve the webhook receiver alone", receiver, _HOST, _PORT),
        _command("connect", "Authorize a Zendesk connection in any browser", connect, _CONN, _DISCONNECT),
        _command("dags", "Copy this package's DAG files", dags, _TO),
        _command("doctor", "Look at everything that a flow rests on", doctor, _FLOW, _JSON, _SILENT),
        _command("preflight", "Find out whether a QAD connection fits its instance", preflight, _QAD_CONN, _JSON),
        _command("columns", "List the QAD fields and columns that a mapping file may name", columns, _FLOW),
        _command("drift", "Show what was done by hand in Zendesk", cli_drift.drift, _FLOW, _NOW, _JSON),
        _command("rekey", "Take over a flow whose connections or key templates changed", cli_drift.rekey, _FLOW, _YES),
        _command("new-key", "Print a new vault key", new_key),
        _command("rotate-keys", "Seal every kept secret with the newest key", rotate_keys),
        _command("story", "Tell all that is known of one key", cli_records.story, _KEY, _ONE_FLOW, _JSON),
        _command("forget", "Forget a customer or contact for good", cli_records.forget, _KEY, _ONE_FLOW, _KIND, _YES),
        _command("replay", "Decide again what came to nothing", cli_records.replay, _SOME_KEY, _ONE_FLOW, *_CHOSEN),
        _command("tickets", "List a QAD customer's tickets", cli_records.tickets, _CODE, _ONE_FLOW, _LIMIT, _JSON),
        _command("why", "Why records are not in Zendesk", cli_records.why, _ANY_KEY, _ONE_FLOW, _JSON),
    )
    return [GroupCommand(name="qadzd", help="Sync QAD accounts and Zendesk tickets", subcommands=commands)]


def _command(name: str, text: str, act: Callable[[argparse.Namespace], None], *args: Arg) -> ActionCommand:
    def told(given: argparse.Namespace) -> None:
        # Airflow lets only its own processes look up connections in its database. Its `connections` command sets this
        # private variable for the same reason (seen in 3.3.2: without it only environment connections are found).
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        try:
            act(given)
        except QadzdError as error:
            sys.exit(f"airflow qadzd {name}: {error}")

    return ActionCommand(name=name, help=text, func=told, args=args)


def ledger_upgrade(_given: argparse.Namespace) -> None:
    """Migrate; any number of these may run at once."""
    from airflow_provider_qadzd import config

    ledger = config.unopened_ledger()
    ledger.upgrade()
    print(f"The ledger is at revision {ledger.revision()}.")


def ledger_status(_given: argparse.Namespace) -> None:
    """Where the ledger is (without a password), and whether its tables fit."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.ledger.store import head_revision

    ledger = config.unopened_ledger()
    where = ledger.engine.url.set(query={}).render_as_string()  # a query may hold passwords
    print(f"{where}: revision {ledger.revision()}, needs {head_revision()}.")


def receiver(given: argparse.Namespace) -> None:
    """The receiver at /qadzd, as in Airflow's api-server."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.plugin.receiver import receiver_app

    app = receiver_app(config.open_ledger, config.receiver_vault, config.number("freshness_seconds"))
    routed = Starlette(routes=[Mount("/qadzd", app)])
    uvicorn.run(routed, host=given.host, port=given.port, log_level="warning", server_header=False)


def dags(given: argparse.Namespace) -> None:
    """Copy the DAG files, saying which; a file that is there and differs stops it."""
    target = Path(given.to)
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted(dags_folder().glob("qadzd_*.py")):
        copy = target / source.name
        if copy.exists() and copy.read_bytes() != source.read_bytes():
            sys.exit(f"airflow qadzd dags: {copy} is there and differs. Move it away and run again.")
        shutil.copyfile(source, copy)
        print(copy)


def dags_folder() -> Path:
    """Where this package's DAG files are: inside the installed package, or beside it in a clone."""
    inside = Path(__file__).parent / "dags"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "dags"


def doctor(given: argparse.Namespace) -> None:
    """Every check of the flows, with what to do; exit 1 if one of them failed."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.doctor import examine_flow
    from airflow_provider_qadzd.findings import as_json, as_table, failed

    logging.disable(logging.WARNING)  # Airflow logs to stdout, which is for the findings, maybe as JSON
    flows = [config.flow_settings(given.flow)] if given.flow else config.flows()
    found = {one.name: examine_flow(one, given.silent_hours) for one in flows}
    if given.json:
        print(as_json(found))
    for name, findings in () if given.json else found.items():
        print(f"Flow {name}\n{as_table(findings)}" if len(found) > 1 else as_table(findings))
    if any(map(failed, found.values())):
        sys.exit(1)


def preflight(given: argparse.Namespace) -> None:
    """What the instance has and lacks, and the connection's extra with what to set; exit 1 if something must be set."""
    from airflow_provider_qadzd.findings import as_screen
    from airflow_provider_qadzd.hooks.qad import qad_hook

    logging.disable(logging.WARNING)
    report = qad_hook(given.conn_id).preflight()
    print(as_screen(given.conn_id, report, as_json=given.json))
    if not report.good:
        sys.exit(1)


def columns(given: argparse.Namespace) -> None:
    """Our own names for customers and contacts, then every column of their browses."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.hooks.qad import qad_hook
    from airflow_provider_qadzd.sync.mapping import QAD_FIELDS

    logging.disable(logging.WARNING)
    for flow in [config.flow_settings(given.flow)] if given.flow else config.flows():
        found = qad_hook(flow.qad).client.columns()
        for (kind, names), (browse_id, listed) in zip(QAD_FIELDS.items(), found.items(), strict=True):
            print(f"{kind} ({flow.qad})\n  fields: {', '.join(names)}\n  columns of {browse_id}:")
            print("\n".join(f"    {name}" for name in listed))


def new_key(_given: argparse.Namespace) -> None:
    """A Fernet key for QADZD_VAULT_KEYS or QADZD_RECEIVER_KEYS."""
    from cryptography.fernet import Fernet

    print(Fernet.generate_key().decode())


def rotate_keys(_given: argparse.Namespace) -> None:
    """Seal anew what an older key sealed; exit 1 if something remains that no key given opens."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.ledger import vault

    done = vault.rotate_keys(config.open_ledger(), config.vault(), config.receiver_vault())
    print(f"Sealed anew with the newest key: {done.resealed}. Already sealed with it: {done.current}.")
    for row in done.unreadable:
        print(f"No key given opens {row.name} of {row.holder}, sealed with key {row.key_id}.")
    if done.unreadable:
        sys.exit(1)


def connect(given: argparse.Namespace) -> None:
    """What the Connect page does, for a machine without a browser: an address to open, and one to paste back."""
    from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
    from airflow_provider_qadzd.plugin.connect import connect_at_terminal, disconnect

    hook = ZendeskHook(given.conn_id)
    if given.disconnect:
        told = disconnect(hook)
    else:
        told = connect_at_terminal(hook, sys.stdin.readline, lambda text: print(text, flush=True))
    print(told.text)
    if told.tone == "bad":
        sys.exit(1)
