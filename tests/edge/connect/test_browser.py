"""The Connect page in a real browser: Chromium, a running api-server, and Zendesk simulated. Takes half a minute."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sandbox.demo.standalone import Place
from tests.edge.api_server import api_server
from tests.edge.conftest import zendesk_connection

selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402 - only where it is installed
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.remote.webdriver import WebDriver  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = (next(filter(None, map(shutil.which, names)), None) for names in (
    ("chromium", "chromium-browser", "google-chrome"), ("chromedriver",),
))  # fmt: skip
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium: apt-get install chromium chromium-driver brings one"
)
SCREENSHOTS = Path(__file__).parents[3] / "build"


@pytest.fixture
def airflow(one_sandbox: Sandbox, tmp_path: Path) -> Iterator[Place]:
    """A running api-server with one user and a connection that asks for consent."""
    one_sandbox.post_control("/_sandbox/reset", {})
    more = {
        "AIRFLOW_CONN_ZENDESK_DEFAULT": zendesk_connection(one_sandbox.url, auth="authorization_code"),
        "AIRFLOW__API__WORKERS": "2",  # what one of them begins, the other can go on with
    }
    with api_server(tmp_path, more) as place:
        yield place


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[WebDriver]:
    """A Chromium without a window."""
    options = selenium.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--window-size=1200,1000", f"--user-data-dir={tmp_path}/chromium"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root otherwise
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = selenium.ChromeService(str(DRIVER), log_output=str(tmp_path / "chromedriver.log"))
    driver = selenium.Chrome(options, service)
    yield driver
    driver.quit()


def wait_for(browser: WebDriver, xpath: str) -> object:
    """The element, once it is there and can be seen."""
    found = WebDriverWait(browser, 30, ignored_exceptions=[StaleElementReferenceException]).until(
        lambda driver: [one for one in driver.find_elements(By.XPATH, xpath) if one.is_displayed()]
    )
    return found[0]


def click(browser: WebDriver, xpath: str) -> None:
    """Click it once it is there."""
    wait_for(browser, xpath).click()  # type: ignore[attr-defined]


def text_once(browser: WebDriver, part: str) -> str:
    """What the page says, once it says that."""

    def read(driver: WebDriver) -> str:
        text = driver.find_element(By.TAG_NAME, "body").text
        return text if part in text else ""

    # A page may be replaced by the next one while it is read.
    return WebDriverWait(browser, 30, ignored_exceptions=[StaleElementReferenceException]).until(read)


def shoot(browser: WebDriver, name: str) -> None:
    """Keep what is seen, to be looked at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    browser.save_screenshot(str(SCREENSHOTS / f"connect-{name}.png"))


def test_a_person_connects_and_disconnects(airflow: Place, browser: WebDriver, one_sandbox: Sandbox) -> None:
    """Sign in, follow the menu, Connect, see the scopes, Disconnect; then a denial; and no code in any log."""
    # A stranger is asked to sign in, and comes back to the page.
    browser.get(f"{airflow.url}/qadzd/connect")
    text_once(browser, "You are not signed in to Airflow")
    click(browser, "//a[.='Sign in to Airflow']")
    wait_for(browser, "//input[@name='username']").send_keys("admin")  # type: ignore[attr-defined]
    browser.find_element(By.NAME, "password").send_keys(airflow.password)
    click(browser, "//button[@type='submit']")
    text_once(browser, "not connected yet")

    # From Airflow's own menu, the page opens in a tab of its own.
    browser.get(airflow.url)
    click(browser, "//button[.//*[.='Admin'] or .='Admin']")
    link = wait_for(browser, "//a[contains(., 'Connect Zendesk')]")
    assert link.get_attribute("target") == "_blank"  # type: ignore[attr-defined]
    shoot(browser, "menu")
    link.click()  # type: ignore[attr-defined]
    WebDriverWait(browser, 30).until(lambda driver: len(driver.window_handles) == 2)
    browser.switch_to.window(browser.window_handles[1])
    text_once(browser, "not connected yet")
    shoot(browser, "before")

    click(browser, "//button[.='Connect']")
    read = text_once(browser, "Connected to")
    assert browser.current_url == f"{airflow.url}/qadzd/connect"
    for part in ("Scopes granted read write", "Authorized by admin", "Acts in Zendesk as", "(admin)", "UTC"):
        assert part in read.replace("\n", " ")
    shoot(browser, "connected")

    click(browser, "//button[.='Disconnect']")
    assert "not connected yet" in text_once(browser, "Disconnected from")

    one_sandbox.post_control("/_sandbox/settings", {"deny_authorization": True})
    click(browser, "//button[.='Connect']")
    assert "not connected yet" in text_once(browser, "consent was denied in Zendesk")
    shoot(browser, "denied")

    assert [entry for entry in browser.get_log("browser") if "Content Security" in entry["message"]] == []
    logged = (airflow.folder / "api.log").read_text().replace("status_code=", "").splitlines()
    answers_logged = [line for line in logged if "/qadzd/connect/callback" in line]
    assert len(answers_logged) == 2
    assert [line for line in answers_logged if "state=" in line or "code=" in line] == []
