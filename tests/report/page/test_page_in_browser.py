"""The page in a real browser: quiet, offline, narrow, dark, printed, by keyboard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

WIDTHS = [320, 360, 700, 1100]
CONTRAST = """
() => {
  const channel = value => value / 255 <= .04045 ? value / 255 / 12.92 : ((value / 255 + .055) / 1.055) ** 2.4;
  const light = color => { const [r, g, b] = color.match(/\\d+/g).map(Number).map(channel);
                           return .2126 * r + .7152 * g + .0722 * b; };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const ratio = color => { const [a, b] = [light(color), paper].sort((x, y) => y - x); return (a + .05) / (b + .05); };
  const ink = selector => ratio(getComputedStyle(document.querySelector(selector)).color);
  const fill = selector => ratio(getComputedStyle(document.querySelector(selector)).fill);
  return { paper, text: Math.min(ink("body"), ink("figcaption"), ink("summary"), ink(".tiles dt")),
           plot: fill('svg [fill="var(--ink)"]'), mark: fill('svg [fill="var(--mark)"]') };
}
"""


class Visit:
    """A page that is open, and all that it did which it should not."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
        page.goto(file.as_uri())


@pytest.fixture
def visit(browser: Browser, page_file: Path, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """The page in a window of its own; the parameter, where there is one, sets the window."""
    options: dict[str, Any] = getattr(request, "param", {})
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **options})
    yield Visit(context.new_page(), page_file)
    context.close()


def window(width: int, **options: Any) -> dict[str, Any]:
    return {"viewport": {"width": width, "height": 800}, **options}


def test_the_page_is_quiet_and_asks_for_nothing(visit: Visit, page_file: Path) -> None:
    """One request, for the file itself; nothing in the console; hostile codes have not run."""
    visit.page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true })")
    assert visit.requests == [page_file.as_uri()]
    assert visit.complaints == []
    assert visit.page.title() == "Image sets in s3://bucket/imaging"


@pytest.mark.parametrize("visit", [window(width) for width in WIDTHS], indirect=True, ids=map(str, WIDTHS))
def test_no_width_scrolls_sideways_and_no_plot_is_cut_off(visit: Visit) -> None:
    """With every table open the page is no wider than its window, and every text of a plot lies in the window."""
    visit.page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true })")
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outside = """
        [...document.querySelectorAll('.plot text')].filter(text => text.checkVisibility())
          .map(text => [text.getBoundingClientRect(), text.textContent])
          .filter(([box]) => box.left < 0 || box.right > innerWidth).map(([, text]) => text)
    """
    assert visit.page.evaluate(outside) == []
    shown = visit.page.locator(".plot:visible").count()
    assert shown == visit.page.locator("figure").count() > 10


@pytest.mark.parametrize(
    "visit", [window(1100, color_scheme="light"), window(1100, color_scheme="dark")], indirect=True
)
def test_text_and_plots_stand_out_in_light_and_dark(visit: Visit, request: pytest.FixtureRequest) -> None:
    """Text has the contrast of WCAG 2.2 AA (4.5), plots that of graphics (3), and dark is dark."""
    found = visit.page.evaluate(CONTRAST)
    assert found["text"] >= 4.5
    assert found["plot"] >= 4.5
    assert found["mark"] >= 3
    is_dark = request.node.callspec.params["visit"]["color_scheme"] == "dark"
    assert found["paper"] < 0.05 if is_dark else found["paper"] > 0.9


def test_everything_is_reached_and_opened_by_keyboard(visit: Visit) -> None:
    """Tab goes to the skip link, the data stores, every table's summary in order; Enter opens one, Tab goes in."""
    seen = []
    for _ in range(visit.page.locator("summary").count() + 3):
        visit.page.keyboard.press("Tab")
        focused = "[document.activeElement.tagName, document.activeElement.textContent.trim()]"
        seen.append(tuple(visit.page.evaluate(focused)))
    assert seen[0] == ("A", "Skip to the content")
    assert [tag for tag, _ in seen[1:3]] == ["A", "A"]
    assert [text for tag, text in seen if tag == "SUMMARY"] == [
        text.strip() for text in visit.page.locator("summary").all_text_contents()
    ]
    assert visit.page.locator("summary").last.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    visit.page.keyboard.press("Enter")
    assert visit.page.locator("details").last.evaluate("node => node.open")
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.getAttribute('role')") == "group"


def test_the_skip_link_leads_to_the_content(visit: Visit) -> None:
    """Enter on it moves the focus into the main part."""
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    assert visit.page.evaluate("document.activeElement.id") == "content"


def test_every_figure_says_in_words_what_it_shows(visit: Visit) -> None:
    """A screen reader gets a heading, a sentence and a table of each; the drawing is left out."""
    for figure in visit.page.locator("figure").all():
        assert figure.locator("h3").inner_text()
        assert figure.locator("figcaption").inner_text()
        assert figure.locator("details tbody tr").count() or figure.locator("h3").inner_text().startswith("Image sets")
    assert visit.page.locator(".plot:not([aria-hidden=true])").count() == 0


@pytest.mark.parametrize("visit", [window(1100, color_scheme="dark")], indirect=True)
def test_it_prints_on_white_with_its_plots(visit: Visit) -> None:
    """Print is light whatever the scheme, with the wide plots and without what cannot be opened on paper."""
    visit.page.emulate_media(media="print")
    assert visit.page.evaluate(CONTRAST.replace("summary", "h2"))["paper"] > 0.9
    assert visit.page.locator(".narrow:visible").count() == 0
    assert visit.page.locator("details:visible").count() == 0
    assert visit.page.locator(".wide:visible").count() == visit.page.locator("figure").count()
    pages = visit.page.pdf(prefer_css_page_size=True)
    assert pages.startswith(b"%PDF")
    assert 3 <= pages.count(b"/Type /Page\n") <= 12
