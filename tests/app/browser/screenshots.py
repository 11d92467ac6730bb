"""`python -m tests.app.browser.screenshots`: the explorer's views for the docs, light, dark and narrow."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.app.browser.conftest import FLAGS, PATIENCE, chromium
from tokenrank_guidance.app.explorer import Explorer, Settings
from tokenrank_guidance.app.serving import Served, serve
from tokenrank_guidance.app.state import VIEWS, Source, State, to_link

OUT = Path(__file__).parents[3] / "docs" / "images" / "app"
SHAPES = {"light": (1200, 900), "dark": (1200, 900), "phone": (390, 844)}
CHURCH = State(Source(seed=3), step=14, token=119, n=3)
SHOWN = {
    "walk": CHURCH,
    "tokenrank": CHURCH,
    "heads": CHURCH.of(token=None),
    "segments": CHURCH,
    "words": CHURCH.of(model="tiny-flux", steps=10, words="church"),
    "guidance": CHURCH.of(arms=("sag", "tokenrank", "pag")),
}
QUALITY = 62
PAINTED = """() => {
  const images = [...document.querySelectorAll('.tr-frame img')];
  const busy = document.querySelector(".progress-text");
  return !busy && document.querySelector(".tr-stage") && images.every((one) => one.complete);
}"""


def shots(served: Served, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """(file name, JPEG) of each view in each shape."""
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium(), args=FLAGS) as browser,
    ):
        for shape, (width, height) in SHAPES.items():
            scheme: Any = "dark" if shape == "dark" else "light"
            size: Any = {"width": width, "height": height}
            context = browser.new_context(viewport=size, color_scheme=scheme)
            for name in names:
                page = context.new_page()
                page.set_default_timeout(10 * PATIENCE)
                theme = "&__theme=dark" if shape == "dark" else ""
                page.goto(f"{served.url}?{to_link(SHOWN[name].of(view=name))}{theme}")
                page.wait_for_selector(".tr-frame img:visible, .tr-tile:visible")
                page.wait_for_function(PAINTED)
                page.wait_for_timeout(500)
                yield (
                    f"{name}-{shape}.jpg",
                    page.screenshot(type="jpeg", quality=QUALITY, full_page=shape != "phone"),
                )
                page.close()
            context.close()


def main(names: list[str]) -> None:
    """Write the pictures."""
    served = serve(Explorer(Settings(models=("tiny-sd", "tiny-flux"))), State(), "127.0.0.1", 0, 2**20)
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        for name, data in shots(served, names or list(VIEWS)):
            (OUT / name).write_bytes(data)
            print(f"{OUT / name}: {len(data) // 1024} KiB")
    finally:
        served.close()


if __name__ == "__main__":
    main(sys.argv[1:])
