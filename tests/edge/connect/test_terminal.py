"""`airflow qadzd connect`: an address to open anywhere, one to paste back, and words for all that can go wrong."""

from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.plugin.connect import Told, connect_at_terminal, disconnect
from airflow_provider_qadzd.sandbox import Sandbox
from tests.edge.conftest import zendesk_connection

AIRFLOW = str(Path(sys.executable).parent / "airflow")
REDIRECT = "https://airflow.example.com/qadzd/connect/callback"


@pytest.fixture
def asking(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A connection that asks a person for consent."""
    connection = zendesk_connection(sandbox.url, auth="authorization_code", redirect_uri=REDIRECT)
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", connection)
    return sandbox


def consent(said: str) -> str:
    """Open the address that was printed, as a browser would, and say at which address it ends."""
    asked = urlsplit(next(line for line in said.splitlines() if "/oauth/authorizations/new" in line))
    zendesk = http.client.HTTPConnection(asked.netloc, timeout=10)
    zendesk.request("GET", f"{asked.path}?{asked.query}")
    there = str(zendesk.getresponse().getheader("Location"))
    zendesk.close()
    return there


def connect(paste: str = "{there}") -> Told:
    """Connect and paste what a person would: `{there}` is the address at which the browser ended."""
    said: list[str] = []
    return connect_at_terminal(ZendeskHook(), lambda: paste.format(there=consent("\n".join(said))) + "\n", said.append)


def test_an_address_that_is_pasted_connects(asking: Sandbox) -> None:
    """The token is kept, with who did it; nothing has to listen on the machine."""
    told = connect()
    assert told == Told(f"Connected to {asking.url} as Sandbox Admin (admin).")
    hook = ZendeskHook()
    token = hook.secrets.read(hook.token_name)
    assert token is not None
    assert token.authorized_by.endswith(" at a terminal")
    assert hook.client.users.me()["role"] == "admin"


@pytest.mark.parametrize(
    "paste",
    ["", "   ", "garbage", "https://[", f"{REDIRECT}?code=x&state=guessed", f"{REDIRECT}?code=x", "{there}x"],
    ids=["nothing", "blanks", "garbage", "a broken address", "another state", "no state", "a cut or longer state"],
)
def test_what_is_not_the_answer_is_refused(paste: str, asking: Sandbox) -> None:
    """Only the answer to this very request is taken, and no code is spent on another."""
    with pytest.raises(FixFirst, match="not the answer to this request"):
        connect(paste)
    assert "POST /oauth/tokens" not in asking.get_control("/_sandbox/stats")["calls"]


def test_a_denial_is_told(asking: Sandbox) -> None:
    """Denied in Zendesk, the words say so and what to do."""
    asking.post_control("/_sandbox/settings", {"deny_authorization": True})
    with pytest.raises(FixFirst, match=r"consent was denied in Zendesk \(access_denied\).*choose Allow"):
        connect()


@pytest.mark.parametrize("auth", ["client_credentials", "api_token"])
def test_a_connection_that_asks_nobody_is_told(auth: str, asking: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to connect, and the words say what to set if there should be."""
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", zendesk_connection(asking.url, auth=auth))
    with pytest.raises(FixFirst, match=f"its auth is {auth}"):
        connect()
    assert "nothing to take back" in disconnect(ZendeskHook()).text


def test_disconnecting_twice_is_no_error(asking: Sandbox) -> None:
    """The first time revokes, the second finds nothing."""
    connect()
    assert "revoked" in disconnect(ZendeskHook()).text
    assert "nothing to take back" in disconnect(ZendeskHook()).text


@pytest.mark.parametrize("denied", [False, True], ids=["allowed", "denied"])
def test_the_command_does_it(denied: bool, asking: Sandbox) -> None:
    """`airflow qadzd connect` reads one line from its standard input; what fails is one sentence and exit code 1."""
    asking.post_control("/_sandbox/settings", {"deny_authorization": denied})
    command = [AIRFLOW, "qadzd", "connect", "zendesk_default"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if "/oauth/authorizations/new" in line)
            process.stdin.write(consent(line) + "\n")
            process.stdin.flush()
            rest = process.stdout.read()
            code = process.wait(60)
        finally:
            process.kill()
    assert code == (1 if denied else 0), rest
    assert ("consent was denied" if denied else "Sandbox Admin (admin)") in rest
    assert "Traceback" not in rest


def test_the_command_disconnects(asking: Sandbox) -> None:
    """`--disconnect` is the page's button."""
    connect()
    command = [AIRFLOW, "qadzd", "connect", "zendesk_default", "--disconnect"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The token is revoked." in done.stdout
    hook = ZendeskHook()
    assert hook.secrets.read(hook.token_name) is None
