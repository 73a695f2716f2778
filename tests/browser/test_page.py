"""The report in a real browser: Chromium, driven by Selenium. Skipped where either is not installed."""

from __future__ import annotations

import base64
import json
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from lab.report.cells import Known
from lab.report.data import build
from lab.report.load import load
from lab.report.page import render
from tests.unit.trials import stored, trial

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
CELL = "story.redis-none-late-running"
SECONDS = 15  # for the browser to do what it was told


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """A page with a loss, a redelivery, a surprise, and several trials of one cell."""
    folder = tmp_path_factory.mktemp("report")
    phases = ("queued", "reserved", "running", "finished", "acknowledged")
    stored(
        folder / "results",
        *(trial("lost", acknowledgement="early", phase=phase, number=n) for n, phase in enumerate(phases)),
        *(trial("redelivered", acknowledgement="late", phase="running", number=10 + n) for n in range(3)),
        trial("lost", expect="once", acknowledgement="late", phase="queued", number=20),
        trial("once", scenario="other", profile="rabbitmq-classic", acknowledgement="late", number=21),
        trial("once", scenario="<i>x</i>", number=22),
    )
    path = folder / "report" / "index.html"
    path.parent.mkdir()
    known = Known(asks={"story": "Is it lost?"}, order={"story": {"phase": phases}})
    path.write_text(render(build(load([folder / "results"]).results, known), path), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="session")
def chromium():
    if not CHROMIUM or not DRIVER:
        pytest.skip("no Chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, page):
    """The page as it opens; at the end nothing stood in the console, and nothing was asked of a network."""
    screen(chromium, 1280)
    chromium.get("about:blank")
    chromium.get_log("performance")
    chromium.get(page)
    yield chromium
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
    assert {url for url in requested(chromium) if not url.startswith(("file:", "about:"))} == set()


def requested(driver):
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            yield message["params"]["request"]["url"]


def screen(driver, width, zoom=1):
    """Zooming to 200 % halves the pixels that the page has, and doubles each."""
    metrics = {
        "width": width // zoom,
        "height": 900 // zoom,
        "deviceScaleFactor": zoom,
        "mobile": width < 500,
    }
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def until(driver, condition):
    return WebDriverWait(driver, SECONDS).until(lambda _: condition())


def shown(driver, selector):
    return [element for element in driver.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


def one(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def test_a_filter_leaves_what_matches(browser):
    cells = f"{len(shown(browser, '#cells tbody tr'))} cells"
    Select(one(browser, "#f-word")).select_by_value("redelivered")
    until(browser, lambda: one(browser, "#f-count").text == f"1 of {cells}")
    assert len(shown(browser, "#cells tbody tr")) == 1
    assert [section.get_attribute("id") for section in shown(browser, "section.scenario")] == [
        "scenario.story"
    ]
    one(browser, "#matrix button[type=reset]").click()
    until(browser, lambda: f"{len(shown(browser, '#cells tbody tr'))} cells" == cells)
    one(browser, "#f-text").send_keys("early RUNNING")
    until(browser, lambda: one(browser, "#f-count").text == f"1 of {cells}")
    one(browser, "#f-text").clear()
    Select(one(browser, "#f-profile")).select_by_visible_text("rabbitmq-classic")
    until(browser, lambda: one(browser, "#f-count").text == f"1 of {cells}")


def test_from_a_cell_to_its_diagram_its_history_and_its_command(browser):
    assert not shown(browser, "svg.st")
    one(browser, f'#matrix td[data-c="{CELL}"] a').click()
    body = browser.find_element(By.ID, CELL)
    until(browser, body.is_displayed)
    (diagram,) = [svg for svg in body.find_elements(By.CSS_SELECTOR, "svg.st") if svg.is_displayed()]
    assert diagram.size["width"] > 300
    assert "kill landed" in diagram.text
    assert "--only acknowledgement=late --only phase=running --trials 3" in body.text
    body.find_element(By.CSS_SELECTOR, ".raw summary").click()
    assert "v/7      started" in body.find_element(By.CSS_SELECTOR, ".raw pre").text
    assert "3 trials" in body.text


def test_a_deep_link_opens_its_cell(browser, page):
    browser.get("about:blank")
    browser.get(f"{page}#{CELL}")
    body = browser.find_element(By.ID, CELL)
    until(browser, body.is_displayed)
    until(browser, lambda: 0 <= body.rect["y"] - browser.execute_script("return scrollY") < 600)


def test_without_scripts_everything_is_there(browser, page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get("about:blank")
        browser.get(f"{page}#{CELL}")
        until(browser, browser.find_element(By.ID, CELL).is_displayed)
        assert not shown(browser, ".tools, .copy")
        assert shown(browser, "#matrix .matrix td.lost")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_everything_can_be_done_with_the_keyboard(browser):
    focus = browser.switch_to
    for _ in range(400):
        focus.active_element.send_keys(Keys.TAB)
        if focus.active_element.get_attribute("href") and CELL in focus.active_element.get_attribute("href"):
            break
    assert CELL in focus.active_element.get_attribute("href")
    assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    focus.active_element.send_keys(Keys.ENTER)
    body = browser.find_element(By.ID, CELL)
    until(browser, body.is_displayed)
    until(browser, lambda: focus.active_element.get_attribute("id") == CELL)
    focus.active_element.send_keys(Keys.TAB)
    assert body.find_elements(By.CSS_SELECTOR, ":focus")
    one(browser, "#cells th button").send_keys(Keys.ENTER)
    assert one(browser, "#cells th").get_attribute("aria-sort") == "ascending"


def test_the_list_sorts_by_the_worst(browser):
    head = next(b for b in shown(browser, "#cells th button") if b.text == "Outcome")
    head.click()
    words = [row.text.split()[1] for row in shown(browser, "#cells tbody .badge")]
    assert words == sorted(words, key=["safe", "redelivered", "lost"].index)
    head.click()
    assert shown(browser, "#cells tbody .badge")[0].text.endswith("lost")


def test_two_settings_stand_side_by_side(browser):
    one(browser, ".compare summary").click()
    until(browser, lambda: one(browser, "#c-count").text)
    assert one(browser, "#c-count").text == "1 of 2 cells that have both change"
    (row,) = shown(browser, "#c-body tr")
    assert "story · redis-none · running" in row.text
    assert "lost 1/1" in row.text
    assert "redelivered 3/3" in row.text


@pytest.mark.parametrize(("width", "zoom"), [(360, 1), (1280, 2), (1280, 1)])
def test_the_page_fits_its_screen(browser, page, width, zoom):
    screen(browser, width, zoom)
    browser.get("about:blank")
    browser.get(f"{page}#{CELL}")
    until(browser, browser.find_element(By.ID, CELL).is_displayed)
    wide, room = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= room == width // zoom
    assert browser.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)") >= 14


def test_headings_of_a_matrix_stay_in_sight(browser):
    screen(browser, 360)
    box = one(browser, "section.scenario#scenario\\.story .scroll")
    before = box.find_element(By.CSS_SELECTOR, "tbody tr:not(.group) th").rect["x"]
    browser.execute_script("arguments[0].scrollLeft = 200", box)
    assert browser.execute_script("return arguments[0].scrollLeft", box) > 0
    assert box.find_element(By.CSS_SELECTOR, "tbody tr:not(.group) th").rect["x"] == before


def test_it_prints(browser):
    pdf = base64.b64decode(browser.print_page())
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 20_000


def test_a_hostile_scenario_is_text(browser):
    assert any(heading.text == "<i>x</i>" for heading in shown(browser, "section.scenario h3"))


def test_what_is_shown_can_be_read(browser):
    """Contrast as the browser computes it: text on the first background behind it that is not clear."""
    poor = browser.execute_script(CONTRAST)
    assert poor == []


CONTRAST = """
const light = (rgb) => {
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = rgb.map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  return [255, 255, 255];
};
const poor = new Set();
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || e.closest("script, svg") || !e.checkVisibility()) continue;
  const text = light(parse(getComputedStyle(e).color).slice(0, 3));
  const [a, b] = [text, light(ground(e))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) poor.add(`${e.tagName}.${e.className}: ${e.textContent.slice(0, 40)}`);
}
return [...poor];
"""
