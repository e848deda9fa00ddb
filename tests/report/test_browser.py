"""What a person sees in MLflow's UI, by a real browser: a headless Chromium against a real ``mlflow server``.

Screenshots are kept in the folder that ``BROWSER_SCREENSHOTS`` names, else in pytest's own.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import Workbench, make_repository, make_workbench

from mlflow_repro.report.html import render_html
from mlflow_repro.report.sections import make_document

if TYPE_CHECKING:
    from collections.abc import Iterator

selenium = pytest.importorskip("selenium", reason="selenium is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver (apt install chromium-driver)"),
    pytest.mark.skipif(int(version("mlflow").split(".")[0]) < 3, reason="the pages are those of MLflow 3"),
]
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1800",
)

ATTACK = "<img src=x onerror=\"document.title='HACKED'\"><script>document.title='HACKED'</script>"
RIGHT_TO_LEFT = "\u202eevil\u05d3\u05d9\u05d5\u05e7"
# Whoever logs may call runs, params, tags and files so; names of metrics are checked by MLflow.
TRAIN = f"""\
import os, mlflow
attack, rtl = {ATTACK!r}, {RIGHT_TO_LEFT!r}
with mlflow.start_run(run_name=attack + " **[x](javascript:alert(1))** | `a`"):
    mlflow.log_params({{"hostile": attack, "rtl": rtl, "long": "x" * 6000, "md": "| a | **b** [l](javascript:x) `c`"}})
    mlflow.set_tag("hostile", attack)
    mlflow.log_text(os.urandom(8).hex(), "<b>odd & 'quoted'.txt")
    mlflow.log_metric("accuracy", 0.75)
    for step in range(40):
        noise = int.from_bytes(os.urandom(2), "big") / 999_999 if step > 9 else 0
        mlflow.log_metric("val/loss", 1 / (1 + step) + noise, step)
"""


CONTRAST = """
const light = colour => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = element => {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
};
const low = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  if (!own) continue;
  const style = getComputedStyle(element);
  const [a, b] = [light(element.closest("svg") ? style.fill : style.color), light(ground(element))];
  if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) low.push(element.textContent);
}
return low;
"""


@dataclass
class Shown:
    """A reference and its reproduction, which differs, on a server."""

    url: str
    experiment: str
    reference: str
    reproduction: str

    def page(self, run_id: str, rest: str = "") -> str:
        return f"{self.url}/#/experiments/{self.experiment}/runs/{run_id}{rest}"


@pytest.fixture(scope="module")
def shown(tmp_path_factory, empty_store, preloaded, tracking_server) -> Shown:
    root = tmp_path_factory.mktemp("browser")
    bench: Workbench = make_workbench(root, empty_store, make_repository(root), preloaded)
    bench.tracking_uri = tracking_server
    bench.repository.commit({"train.py": TRAIN})
    reference = bench.train("train.py")
    answer = bench.reproduce(reference, "--annotate-reference")
    assert answer.returncode == 1, answer.stderr
    reproduction = bench.reproduction_of(reference)
    return Shown(
        url=tracking_server,
        experiment=reproduction.info.experiment_id,
        reference=reference,
        reproduction=reproduction.info.run_id,
    )


class Browser:
    """Opens pages, waits for what they show, and keeps pictures of them."""

    def __init__(self, driver, folder: Path) -> None:
        self.driver = driver
        self.folder = folder

    def open(self, url: str) -> None:
        self.driver.get("about:blank")  # another fragment alone would not load the page anew
        self.driver.get(url)

    def wait_for(self, text: str, name: str = "") -> str:
        """The text of the page, once ``text`` is in it; a picture of it is kept as ``name``."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            WebDriverWait(self.driver, 90).until(lambda _driver: text in self.text())
        except TimeoutException:
            self.keep("failed")
            pytest.fail(f"{text!r} is not on the page, but: {self.text()[:3000]}")
        if name:
            self.keep(name)
        return self.text()

    def text(self) -> str:
        return self.driver.execute_script("return document.body ? document.body.innerText : ''")

    def keep(self, name: str) -> None:
        self.driver.save_screenshot(str(self.folder / f"{name}.png"))

    def find(self, css: str):
        from selenium.webdriver.common.by import By

        return self.driver.find_elements(By.CSS_SELECTOR, css)

    @contextmanager
    def in_frame(self) -> Iterator[None]:
        """Inside of the page's one frame."""
        (frame,) = self.find("iframe")
        self.driver.switch_to.frame(frame)
        try:
            yield
        finally:
            self.driver.switch_to.default_content()

    def press_tab(self, times: int) -> list[str]:
        """What has the focus after each press of the tabulator."""
        from selenium.webdriver.common.keys import Keys

        reached = []
        for _ in range(times):
            self.driver.switch_to.active_element.send_keys(Keys.TAB)
            reached.append(self.driver.switch_to.active_element.text)
        return reached

    def low_contrast(self) -> list[str]:
        """The texts whose contrast to the page is below 4.5, the least that WCAG 2 allows (level AA)."""
        return self.driver.execute_script(CONTRAST)

    def check_nothing_ran(self) -> None:
        assert self.driver.title != "HACKED"
        assert self.find("img[onerror]") == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    folder = Path(os.environ.get("BROWSER_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield Browser(driver, folder)
    finally:
        driver.quit()


def test_page_of_the_reproduction_tells_the_story(browser: Browser, shown: Shown):
    browser.open(shown.page(shown.reproduction))
    text = browser.wait_for("DIFFERENT", "reproduction")
    assert "Runs equal: False" in text
    assert "repro.max_rel_error" in text
    browser.check_nothing_ran()
    (link,) = browser.find(f"a[href*='{shown.reference}']")
    assert "<img" in link.text
    browser.driver.execute_script("arguments[0].click()", link)  # the page's own "Show more" lies over it
    browser.driver.switch_to.window(browser.driver.window_handles[-1])
    browser.wait_for("last_verdict", "reference")
    assert shown.reference in browser.driver.current_url
    browser.check_nothing_ran()


def test_report_opens_in_the_artifact_viewer(browser: Browser, shown: Shown):
    browser.open(shown.page(shown.reproduction, "/artifacts/repro/report.html"))
    browser.wait_for("report.html")
    with browser.in_frame():
        text = browser.wait_for("Everything that was compared", "report")
        assert "Runs equal: False" in text
        assert "differs from step 10 on" in text
        assert RIGHT_TO_LEFT not in text
        assert ATTACK in text
        assert len(browser.find("svg polyline")) == 2
        (mark,) = browser.find("svg .mark-label")
        assert mark.text == "differs from step 10"
        browser.check_nothing_ran()
    browser.check_nothing_ran()


def test_runs_are_listed(browser: Browser, shown: Shown):
    browser.open(f"{shown.url}/#/experiments/{shown.experiment}/runs")
    browser.wait_for("matching runs", "runs")
    browser.check_nothing_ran()


def test_report_is_a_page_of_its_own(browser: Browser, shown: Shown, tmp_path: Path):
    """Light and dark, on paper, by the keyboard alone; nothing is fetched and nothing is written to the console."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=shown.url)
    page = client.download_artifacts(shown.reproduction, "repro/report.html", str(tmp_path))
    grounds = set()
    browser.driver.get_log("browser")  # reading it empties it: what MLflow's own pages said is not ours
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.open(f"file://{page}")
        browser.wait_for("Do it again", f"page-{scheme}")
        grounds.add(browser.driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert [row for row in browser.low_contrast() if row] == []
    assert len(grounds) == 2
    assert browser.driver.get_log("browser") == []
    assert browser.driver.execute_script("return performance.getEntriesByType('resource').length") == 0
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.keep("page-print")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    reached = browser.press_tab(12)
    assert reached[0] == "Skip to what differs"
    assert "What differs" in reached


def test_hostile_names_stay_text_on_the_page(browser: Browser, tmp_path: Path):
    """Also one of 10,000 characters: it neither runs nor makes the page wider than the window."""
    from test_documents import HOSTILE, hostile_report

    for name, text in HOSTILE.items():
        page = tmp_path / f"{name}.html"
        page.write_text(render_html(make_document(hostile_report(text))), encoding="utf-8")
        browser.open(f"file://{page}")
        browser.wait_for("Do it again", f"hostile-{name}")
        browser.check_nothing_ran()
        assert browser.driver.execute_script("return window.hacked") is None
        assert browser.driver.execute_script("return document.body.scrollWidth <= innerWidth"), name


def test_page_with_many_metrics_is_shown(browser: Browser, tmp_path: Path):
    """500 metrics, 100 plots."""
    from test_documents import large_report

    page = tmp_path / "large.html"
    page.write_text(render_html(make_document(large_report(500))), encoding="utf-8")
    browser.open(f"file://{page}")
    browser.wait_for("Do it again")
    assert len(browser.find("svg")) == 100
