"""The page of plans in a real browser: a plan is judged, searched and approved. Takes half a minute."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import requests
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sandbox.demo.standalone import Place
from tests.edge.conftest import qad_connection, zendesk_connection
from tests.edge.connect.test_browser import (
    SCREENSHOTS,
    airflow,
    browser,
    click,
    pytestmark,
    text_once,
    wait_for,
)
from tests.edge.plans.conftest import planned

__all__ = ["airflow", "browser", "pytestmark"]


def shoot(driver: WebDriver, name: str) -> None:
    """Keep the whole page as it is seen, to be looked at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    driver.set_window_size(1280, min(4000, 200 + int(driver.execute_script("return document.body.scrollHeight"))))
    driver.save_screenshot(str(SCREENSHOTS / f"plan-{name}.png"))
    driver.set_window_size(1280, 1000)


def two_plans(sandbox: Sandbox) -> None:
    """A first plan that went, on paper, and one that waits; as the DAG's tasks make them."""
    planned("dry_run")
    sandbox.post_control("/_sandbox/customers", {"code": "C0000204", "name": "Renamed & <b>Co</b>"})
    planned("approve")


def test_a_person_judges_and_approves_a_plan(
    airflow: Place, browser: WebDriver, one_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the list to the plan that waits: counts, reasons, a search by name; Approve without a DAG says why not."""
    monkeypatch.setenv("QADZD_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("AIRFLOW_CONN_QAD_DEFAULT", qad_connection(one_sandbox.url))
    monkeypatch.setenv("AIRFLOW_CONN_ZENDESK_DEFAULT", zendesk_connection(one_sandbox.url))
    two_plans(one_sandbox)
    browser.get(f"{airflow.url}/qadzd/plans")
    click(browser, "//a[.='Sign in to Airflow']")
    wait_for(browser, "//input[@name='username']").send_keys("admin")  # type: ignore[attr-defined]
    browser.find_element(By.NAME, "password").send_keys(airflow.password)
    click(browser, "//button[@type='submit']")
    text_once(browser, "waits for a review")
    shoot(browser, "list")

    click(browser, "//tr[contains(., 'waits')]//a")
    read = text_once(browser, "Within the brake")
    for part in ("Organizations", "Users", "Memberships", "set aside", "the email is an agent's", "Zendesk calls"):
        assert part in read
    shoot(browser, "whole")

    search = wait_for(browser, "//input[@name='search']")
    search.send_keys("renamed & <b>")  # type: ignore[attr-defined]
    click(browser, "//button[.='Search']")
    assert "Renamed & <b>Co</b>" in text_once(browser, "C0000204")
    click(browser, "//summary")
    text_once(browser, "qad_city")
    shoot(browser, "found")

    # No scheduler has told this Airflow of the DAG: the page says so, and the plan goes on waiting.
    click(browser, "//button[.='Approve']")
    text_once(browser, "cannot be triggered")
    shoot(browser, "refused")
    kept = sqlite3.connect(tmp_path / "ledger.db")
    assert kept.execute("SELECT plan_state FROM qadzd_plan ORDER BY plan_id").fetchall() == [("shown",), ("waiting",)]
    kept.close()
    assert [entry for entry in browser.get_log("browser") if "Content Security" in entry["message"]] == []
    assert requests.get(f"{airflow.url}/qadzd/plans", timeout=10).status_code == 401
