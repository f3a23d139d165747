"""The pages in headless Chromium: silent, alone, and every control works."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


class Watched:
    """A page, with what it asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.fixture
def watch(browser: Browser) -> Iterator[Any]:
    """Open a page: ``watch(path, width=360, locale="ja-JP")``."""
    contexts = []

    def opened(path: Path, width: int = 1000, locale: str = "en-US", **settings: Any) -> Watched:
        context = browser.new_context(viewport={"width": width, "height": 800}, locale=locale, **settings)
        contexts.append(context)
        watched = Watched(context.new_page())
        watched.page.goto(path.as_uri())
        return watched

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("kind", ["own", "gan", "table", "unfinished", "comparison", "estimators"])
def test_a_page_is_silent_alone_and_fits_every_width(watch: Any, pages: dict[str, Path], kind: str) -> None:
    watched = watch(pages[kind])
    for width in (360, 800, 1600):
        watched.page.set_viewport_size({"width": width, "height": 800})
        watched.page.wait_for_timeout(50)
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    watched.page.evaluate("for (const control of document.querySelectorAll('button, [type=checkbox]')) control.click()")
    assert watched.complaints == []
    assert [url for url in watched.requests if not url.startswith("data:")] == [pages[kind].as_uri()]
    broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert watched.page.evaluate(broken) == 0


@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
def test_the_table_of_figures_is_read_whole_on_a_narrow_screen(watch: Any, pages: dict[str, Path], locale: str) -> None:
    page = watch(pages["flat"], width=360, locale=locale).page
    rows = page.locator("#figures tbody tr")
    for i in range(rows.count()):
        for box in [cell.bounding_box() for cell in rows.nth(i).locator("td").all()]:
            assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= 360)
    for width in (360, 1400):
        page.set_viewport_size({"width": width, "height": 800})
        lines = page.locator("#figures td.kind").evaluate_all(
            """(cells) => cells.map((cell) => {
                const range = document.createRange();
                range.selectNodeContents(cell);
                return new Set([...range.getClientRects()].map((box) => box.top)).size;
            })"""
        )
        assert max(lines) == 1


@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
def test_the_table_of_estimators_is_read_whole_at_every_width(watch: Any, pages: dict[str, Path], locale: str) -> None:
    page = watch(pages["estimators"], locale=locale).page
    for width in (360, 740, 1000):
        page.set_viewport_size({"width": width, "height": 800})
        wide, shown = page.locator(".wide").evaluate("(box) => [box.scrollWidth, box.clientWidth]")
        assert wide <= shown < width
        edge = page.locator(".drawing svg").first.bounding_box()["x"]
        names = page.locator(".drawing").first.locator("text[text-anchor=end]")
        assert min(box["x"] for box in (name.bounding_box() for name in names.all())) >= edge - 1


def test_the_language_follows_the_browser_and_the_switch(watch: Any, pages: dict[str, Path]) -> None:
    page = watch(pages["flat"], locale="ja-JP").page
    assert page.title() == "digits を学習した変分オートエンコーダ"
    assert page.locator("#losses h2").inner_text() == "損失"
    assert "検証の最良値" in page.locator(".marks").first.text_content()
    assert page.locator(".slider input").get_attribute("aria-label") == "学習の進み具合"
    page.get_by_role("button", name="English").click()
    assert page.title() == "Variational autoencoder on digits"
    assert page.locator("#losses h2").inner_text() == "Losses"
    assert "best validation" in page.locator(".marks").first.text_content()
    assert page.locator(".slider input").get_attribute("aria-label") == "How far training was"
    assert page.evaluate("document.documentElement.lang") == "en"
    shown = page.locator("body").inner_text().replace("日本語", "")
    assert not re.search("[ぁ-んァ-ヶ一-龠]", shown)


def test_pictures_follow_the_slider_by_mouse_and_by_keyboard(watch: Any, pages: dict[str, Path]) -> None:
    page = watch(pages["flat"]).page
    slider, words = page.locator(".slider input"), page.locator(".frame.now figcaption")
    assert "100 %" in words.inner_text()
    slider.click(position={"x": 2, "y": 8})
    assert words.inner_text().startswith("0 %")
    first = page.locator(".frame.now img").first.get_attribute("src")
    slider.press("ArrowRight")
    assert page.locator(".frame.now").count() == 1
    assert not words.inner_text().startswith("0 %")
    assert page.locator(".frame.now img").first.get_attribute("src") != first
    assert slider.get_attribute("aria-valuetext") == words.inner_text()
    slider.press("End")
    assert "100 %" in words.inner_text()


def test_a_chart_is_read_off_by_mouse_and_by_keyboard(watch: Any, pages: dict[str, Path]) -> None:
    page = watch(pages["flat"]).page
    chart = page.locator(".chart").first
    readout, svg = chart.locator(".readout"), chart.locator("> svg")
    assert readout.inner_text().strip() == ""
    svg.hover(position={"x": 400, "y": 100})
    assert re.match(r"epoch [\d.]+ +· +loss [\d.]+ +· +validation loss [\d.]+", readout.inner_text())
    by_mouse = readout.inner_text()
    svg.hover(position={"x": 700, "y": 100})
    assert readout.inner_text() != by_mouse
    page.mouse.move(1, 1)
    assert readout.inner_text().strip() == ""
    svg.focus()
    svg.press("End")
    assert readout.inner_text().startswith("epoch 7 ")
    svg.press("ArrowLeft")
    assert not readout.inner_text().startswith("epoch 7 ")
    svg.press("Home")
    assert readout.inner_text().startswith("epoch 0.")


def test_names_axes_and_ranges_of_a_chart_can_be_switched(watch: Any, pages: dict[str, Path]) -> None:
    page = watch(pages["flat"]).page
    chart = page.locator(".chart").first
    lines = chart.locator("polyline")
    assert lines.count() == 2
    button = chart.locator(".legend button").first
    button.click()
    assert lines.count() == 1
    assert button.get_attribute("aria-pressed") == "false"
    button.press("Enter")
    assert lines.count() == 2
    for control in ("log", "whole"):
        before = lines.first.get_attribute("points")
        chart.locator(f'[data-control="{control}"]').check()
        assert lines.first.get_attribute("points") != before
        chart.locator(f'[data-control="{control}"]').uncheck()
        assert lines.first.get_attribute("points") == before
    for other in chart.locator(".legend button").all():
        other.click()
    assert lines.count() == 0


def test_the_map_shows_the_row_under_the_pointer_and_under_the_keys(watch: Any, pages: dict[str, Path]) -> None:
    page = watch(pages["flat"]).page
    area = page.locator(".map").first
    svg, readout, thumbnail = area.locator("svg"), area.locator(".readout"), area.locator(".thumbnail")
    assert not thumbnail.is_visible()
    circle = area.locator(".points circle").nth(5)
    circle.scroll_into_view_if_needed()
    circle.hover(force=True)
    assert re.fullmatch(r"row \d+, label \d", readout.inner_text())
    assert thumbnail.is_visible()
    place = thumbnail.evaluate("(element) => getComputedStyle(element).backgroundPosition")
    page.mouse.move(1, 1)
    svg.focus()
    svg.press("ArrowRight")
    svg.press("ArrowRight")
    assert re.fullmatch(r"row \d+, label \d", readout.inner_text())
    assert thumbnail.evaluate("(element) => getComputedStyle(element).backgroundPosition") != place
    label = readout.inner_text()[-1]
    area.locator(f'.legend button[data-color="{label}"]').click()
    assert readout.inner_text() == ""
    assert area.locator(f'circle.off[data-color="{label}"]').count() > 0
    assert area.locator(f'.points circle:not(.off)[data-color="{label}"]').count() == 0


def test_the_page_is_dark_where_the_reader_prefers_it(watch: Any, pages: dict[str, Path]) -> None:
    light, dark = (watch(pages["flat"], color_scheme=scheme).page for scheme in ("light", "dark"))
    paper = "getComputedStyle(document.body).backgroundColor"
    assert light.evaluate(paper) == "rgb(253, 253, 251)"
    assert dark.evaluate(paper) == "rgb(22, 24, 26)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_paper(watch: Any, pages: dict[str, Path], scheme: str) -> None:
    page = watch(pages["flat"], color_scheme=scheme).page
    colors = page.evaluate(
        """() => {
            const probe = document.body.appendChild(document.createElement("i"));
            const rgb = (name) => {
                probe.style.color = `var(--${name})`;
                return getComputedStyle(probe).color.match(/\\d+/g).map(Number);
            };
            return Object.fromEntries(["paper", "panel", "ink", "quiet", "accent", "good", "care", "bad",
                ...[...Array(10).keys()].map((i) => `c${i}`)].map((name) => [name, rgb(name)]));
        }"""
    )

    def luminance(color: list[int]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name, color in colors.items():
        if name in ("paper", "panel"):
            continue
        for ground in ("paper", "panel"):
            low, high = sorted((luminance(color), luminance(colors[ground])))
            needed = 3 if name.startswith("c") and name[1:].isdigit() else 4.5
            assert (high + 0.05) / (low + 0.05) >= needed, (name, ground)


def test_in_print_all_pictures_are_there_and_no_controls(watch: Any, pages: dict[str, Path]) -> None:
    page = watch(pages["flat"]).page
    assert page.locator(".frame:visible").count() == 1
    frames = page.locator(".frame").count()
    page.emulate_media(media="print")
    assert page.locator(".frame:visible").count() == frames > 3
    assert page.locator(".switch:visible, .slider:visible, .controls:visible, nav:visible").count() == 0
    assert page.locator("#figures .full").first.is_visible()
    page.set_viewport_size({"width": 680, "height": 800})  # A4 within its margins
    wide = page.locator("#figures .wide")
    assert wide.evaluate("(element) => element.scrollWidth <= element.clientWidth")
    assert page.pdf(format="A4")[:4] == b"%PDF"


def test_without_its_script_everything_can_still_be_read(watch: Any, pages: dict[str, Path]) -> None:
    page = watch(pages["flat"], java_script_enabled=False).page
    assert page.locator("#losses polyline").count() >= 2
    assert page.locator(".frame:visible").count() > 3
    assert page.locator(".slider:visible, .controls:visible, .switch:visible").count() == 0
    assert page.locator(".points circle").count() > 100


def test_every_control_has_a_name_and_every_picture_words(watch: Any, pages: dict[str, Path]) -> None:
    page = watch(pages["own"]).page
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, [tabindex], [role=img], [role=group], nav")].filter(
            (element) => !(element.getAttribute("aria-label") || element.textContent.trim()
                || element.labels?.[0]?.textContent.trim())).length"""
    )
    assert nameless == 0
    silent = "[...document.images].filter((image) => !image.alt && !image.closest('[role=img][aria-label]')).length"
    assert page.evaluate(silent) == 0
    assert page.evaluate("document.querySelectorAll('[id]').length") == page.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map((element) => element.id)).size"
    )
