"""The page in headless Chromium, served by this process, so that what it shows can be compared."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tokenrank_guidance.app.examples import example
from tokenrank_guidance.app.explorer import Explorer, Settings
from tokenrank_guidance.app.serving import Served, serve
from tokenrank_guidance.app.state import Source, State, to_link

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
UPLOAD = 2**20
FIRST = State(Source(steps=4))
PATIENCE = 60_000  # milliseconds, on a busy machine


def chromium() -> str:
    """Where Chromium is; the test fails where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("no Chromium is installed: apt-get install chromium", pytrace=False)
    return found


@dataclass(frozen=True, eq=False)
class Site:
    """The page's address and the explorer behind it."""

    served: Served
    explorer: Explorer

    def address(self, state: State) -> str:
        return f"{self.served.url}?{to_link(state)}"


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    explorer = Explorer(Settings(models=("tiny-sd", "tiny-flux")))
    explorer.captured(FIRST.source)
    served = serve(explorer, FIRST, "127.0.0.1", 0, UPLOAD)
    yield Site(served, explorer)
    served.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = chromium()
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=FLAGS) as opened,
    ):
        yield opened


# When the picture and its map were first drawn: in the frame after they came, since the address was opened.
PAINTED = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("#stage .tr-frame canvas, #stage .tr-tile canvas")) return;
  observer.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => (window.painted = performance.now())));
}).observe(document, { childList: true, subtree: true });
"""
READY = "() => [...document.querySelectorAll('#stage *, #stage')].some((e) => e.stage?.ready)"


class Tab:
    """A page in its own context, as another person has it; every request and error is written down."""

    def __init__(self, browser: Any, address: str, before: Callable[[Any], object] | None) -> None:
        self.context = browser.new_context(
            viewport={"width": 1200, "height": 1000}, accept_downloads=True, color_scheme="light"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.add_init_script(PAINTED)
        if before:
            before(self.page)
        self.page.goto(address)
        self.page.wait_for_selector(".tr-frame:visible, .tr-tile:visible")

    @property
    def first_paint(self) -> float:
        """Milliseconds."""
        return self.page.wait_for_function("() => window.painted").json_value()

    def ready(self) -> Tab:
        """Once the server has answered, so that what is typed stays."""
        self.page.wait_for_function(READY)
        return self

    def scene(self) -> dict[str, Any]:
        """What the stage shows, with the values of its map and the milliseconds of the last click."""
        return self.page.evaluate(
            "() => { const stage = [...document.querySelectorAll('#stage *')].concat(document.querySelector("
            "'#stage')).map((e) => e.stage).find(Boolean); return {...stage.scene(), picture: null, "
            "values: stage.scene().heats.length ? stage.values() : [], milliseconds: stage.milliseconds}; }"
        )

    def until(self, field: str, value: Any) -> dict[str, Any]:
        """The scene, once its field has a value."""
        end = time.monotonic() + PATIENCE / 1000
        while (scene := self.scene())[field] != value:
            assert time.monotonic() < end, f"{field} stayed {scene[field]!r}; expected {value!r}"
            self.page.wait_for_timeout(50)
        return scene

    def click_token(self, row: int, column: int) -> None:
        """In the middle of a token of the grid."""
        rows, columns = self.scene()["grid"]
        box = self.page.locator(".tr-frame").bounding_box()
        x, y = (column + 0.5) * box["width"] / columns, (row + 0.5) * box["height"] / rows
        self.page.locator(".tr-frame").click(position={"x": x, "y": y})

    def view(self, name: str) -> None:
        """By its tab above the picture."""
        self.page.locator("#views").get_by_text(name, exact=True).click()

    def says(self, sentence: str) -> None:
        """Wait for a message that pops up with it."""
        self.page.locator(".toast-body").filter(has_text=sentence).first.wait_for()

    def give(self, path: Path | str) -> None:
        """Choose a file, instead of one that was chosen before."""
        clear = self.page.locator("#file").get_by_label("Clear")
        if clear.count():
            clear.first.click()
        self.page.locator("#file input[type=file]").set_input_files(str(path))

    @property
    def hosts(self) -> set[str]:
        """From where the page has loaded anything."""
        return {urlsplit(url).netloc for url in self.requests if not url.startswith(("data:", "blob:"))}

    def saved(self, button: str) -> bytes:
        """The file that a button gives."""
        if not self.page.locator(button).is_visible():
            self.page.locator("#copy button").first.click()
        with self.page.expect_download() as download:
            self.page.locator(button).click()
        return download.value.path().read_bytes()


@pytest.fixture
def tab(browser, site) -> Iterator[Any]:
    """`tab(state)` opens a page, `before` which something may be done to it.

    None may have had an error in its scripts, or have loaded anything from elsewhere.
    """
    opened: list[Tab] = []

    def open_tab(state: State = FIRST, before: Callable[[Any], object] | None = None) -> Tab:
        opened.append(Tab(browser, site.address(state), before))
        return opened[-1] if before else opened[-1].ready()

    yield open_tab
    for one in opened:
        one.context.close()
    assert [error for one in opened for error in one.errors] == []
    assert {host for one in opened for host in one.hosts} == {urlsplit(site.served.url).netloc}


@pytest.fixture(scope="session")
def small_picture(tmp_path_factory) -> str:
    """One of the examples, small."""
    path = tmp_path_factory.mktemp("given") / "temple.png"
    with Image.open(example("china.jpg")) as image:
        image.resize((96, 64)).save(path)
    return str(path)
