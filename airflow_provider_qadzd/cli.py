"""`airflow qadzd`: what a person does at a terminal. Definitions first, then commands; heavy imports inside them."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

from airflow_provider_qadzd.errors import QadzdError

_HOST = Arg(("--host",), help="Address to listen on", default="127.0.0.1")
_PORT = Arg(("--port",), help="Port to listen on", type=int, default=8081)
_TO = Arg(("--to",), help="Folder to copy the DAG files to", required=True)
_CONN = Arg(("conn_id",), help="Zendesk connection id")


def get_commands() -> list[GroupCommand]:
    """The `qadzd` group, as Airflow's command line wants it."""
    ledger = (
        _command("upgrade", "Migrate the ledger's tables to this version", ledger_upgrade),
        _command("status", "Show where the ledger is and its tables' revision", ledger_status),
    )
    commands = (
        GroupCommand("ledger", "The ledger's database", ledger),
        _command("receiver", "Serve the webhook receiver alone", receiver, _HOST, _PORT),
        _command("connect", "Authorize a Zendesk connection in a browser", connect, _CONN),
        _command("dags", "Copy this package's DAG files", dags, _TO),
        _command("new-key", "Print a new vault key", new_key),
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
    print(f"{ledger.engine.url.render_as_string()}: revision {ledger.revision()}, needs {head_revision()}.")


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


def new_key(_given: argparse.Namespace) -> None:
    """A Fernet key for QADZD_VAULT_KEYS or QADZD_RECEIVER_KEYS."""
    from cryptography.fernet import Fernet

    print(Fernet.generate_key().decode())


def connect(given: argparse.Namespace) -> None:
    """Authorization code with PKCE: print the address, wait for the redirect on this machine, keep the token."""
    from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
    from airflow_provider_qadzd.plugin.connect import consent, listening

    hook = ZendeskHook(given.conn_id)
    asked = consent(hook.oauth_client, hook.settings)
    with listening(asked) as code:
        print(f"Open this address in a browser: {asked.url}", flush=True)
        token = hook.token_source.exchange_code(code(), asked.verifier)
    user = hook.client.users.me()
    print(f"Connected {hook.account.base_url} as {user['name']} ({user['role']}), scope {token.scope}.")
