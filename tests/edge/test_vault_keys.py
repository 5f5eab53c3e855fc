"""Which keys seal what, and that an Airflow which encrypts nothing is given no secret to keep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger.vault import key_id

AIRFLOWS, TOKENS, RECEIVERS = (Fernet.generate_key().decode() for _ in range(3))
NAMES = ("AIRFLOW__CORE__FERNET_KEY", "QADZD_VAULT_KEYS", "QADZD_RECEIVER_KEYS")


def given(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    """Airflow's key, those for tokens and those for signing secrets, as variables of the environment."""
    for name, key in zip(NAMES, keys, strict=True):
        monkeypatch.setenv(name, key)


@pytest.mark.parametrize(
    ("keys", "tokens_by", "signing_by"),
    [
        pytest.param((AIRFLOWS, "", ""), AIRFLOWS, AIRFLOWS, id="only Airflow's"),
        pytest.param((f" {AIRFLOWS} , {TOKENS}", "", ""), AIRFLOWS, AIRFLOWS, id="Airflow's, rotated"),
        pytest.param((AIRFLOWS, TOKENS, ""), TOKENS, TOKENS, id="one of our own"),
        pytest.param((AIRFLOWS, f"{TOKENS}, {AIRFLOWS}", RECEIVERS), TOKENS, RECEIVERS, id="one for each"),
    ],
)
def test_the_nearest_key_seals(
    monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str, str], tokens_by: str, signing_by: str
) -> None:
    """Signing secrets by the receiver's keys, else as tokens; tokens by the vault's keys, else by Airflow's."""
    given(monkeypatch, *keys)
    assert config.vault().seal("x")[0] == key_id(tokens_by)
    assert config.receiver_vault().seal("x")[0] == key_id(signing_by)


@pytest.mark.parametrize("own", ["", TOKENS], ids=["no key", "vault keys"])
@pytest.mark.parametrize("airflows", ["", " , "], ids=["empty", "blank"])
def test_airflow_without_a_fernet_key_is_given_no_secret(
    monkeypatch: pytest.MonkeyPatch, airflows: str, own: str
) -> None:
    """It keeps the connections in plain text, so nothing is sealed beside them, and it is said how to make a key."""
    given(monkeypatch, airflows, own, "")
    for vault in (config.vault, config.receiver_vault):
        with pytest.raises(FixFirst, match="plain text") as error:
            vault()
        assert "fernet_key" in error.value.advice
        assert "airflow qadzd new-key" in error.value.advice


def test_a_receiver_alone_needs_no_key_of_airflows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no connections to protect: its own keys are enough for it, and open nothing but signing secrets."""
    given(monkeypatch, "", "", RECEIVERS)
    assert config.receiver_vault().seal("x")[0] == key_id(RECEIVERS)
    with pytest.raises(FixFirst):
        config.vault()


def test_a_fernet_key_that_was_never_set_is_none(tmp_path: Path) -> None:
    """Airflow then encrypts nothing, whatever the option's default looks like to a task."""
    (tmp_path / "airflow.cfg").write_text("[core]\nload_examples = False\n")
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    code = (
        "from airflow.models.crypto import get_fernet\n"
        "from airflow_provider_qadzd import config\n"
        "print('encrypts:', get_fernet().is_encrypted)\n"
        "config.vault()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120,
        env={**environment, "AIRFLOW_HOME": str(tmp_path), "QADZD_VAULT_KEYS": TOKENS},
    )  # fmt: skip
    assert "encrypts: False" in run.stdout
    assert run.returncode == 1
    assert "plain text" in run.stderr
