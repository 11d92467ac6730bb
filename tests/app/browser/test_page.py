"""The page in a real browser: what is clicked, typed and given shows what the library computes."""

from __future__ import annotations

import base64
import io
import re
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from tests.app.browser.conftest import FIRST, READY, UPLOAD
from tokenrank_guidance import multi_bounce, tokenrank
from tokenrank_guidance.app.picture import picture_of
from tokenrank_guidance.app.segments import segmented
from tokenrank_guidance.app.state import from_link
from tokenrank_guidance.app.watching import Watch

# What Gradio and its libraries warn of, in threads of their own, is not this project's.
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]


def expected_walk(site, state, n):
    record = site.explorer.captured(state.source).record(state.step, state.layer)
    walk = multi_bounce(record, state.token, n, state.direction, state.heads)[0]
    return walk[record.image].numpy()


def test_a_click_shows_the_walk_that_multi_bounce_computes(tab, site, capsys):
    page = tab()
    assert page.scene()["view"] == "walk"
    milliseconds = []
    for row, column in ((3, 5), (12, 2), (0, 15)):
        page.click_token(row, column)
        scene = page.until("token", 16 * row + column)
        milliseconds.append(scene["milliseconds"])
        assert np.array_equal(
            np.float32(scene["values"]), expected_walk(site, FIRST.of(token=scene["token"]), 2)
        )
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowRight")
    expected = expected_walk(site, FIRST.of(token=15), 4)
    assert np.array_equal(np.float32(page.scene()["values"]), expected)
    page.page.wait_for_function("() => location.search.includes('n=4')")
    page.page.keyboard.press("Shift+ArrowDown")
    assert page.until("token", 31)["shown"] == 3
    page.page.mouse.move(0, 0)
    page.page.locator(".tr-frame").hover(position={"x": 5, "y": 5})
    share = re.match(r"row 1, column 1: ([\d.]+) % of the walk", page.page.locator(".tr-read").inner_text())
    assert float(share[1]) / 100 == pytest.approx(page.scene()["values"][0], rel=0.01)
    with capsys.disabled():
        clicks = ", ".join(f"{one:.0f}" for one in milliseconds)
        print(f"\nfirst paint: {page.first_paint:.0f} ms; a click to its map: {clicks} ms")


def test_the_page_comes_with_its_first_picture_and_keeps_a_click_until_the_server_answers(tab, site):
    held = []
    page = tab(before=lambda page: page.route("**/queue/join*", lambda route: held.append(route)))
    assert page.scene()["token"] == 136
    page.click_token(3, 5)
    page.page.wait_for_timeout(300)
    assert page.scene()["token"] == 136 and len(held) == 1
    held.pop().continue_()
    scene = page.until("token", 53)
    assert np.array_equal(np.float32(scene["values"]), expected_walk(site, FIRST.of(token=53), 2))
    page.page.goto(site.address(FIRST.of(token=40)))
    page.page.locator("#draw").wait_for()
    assert page.page.locator("#stage canvas").count() == 0  # another picture than this address asks for
    held.pop().continue_()
    page.page.locator("#stage canvas").wait_for()
    assert page.scene()["token"] == 40
    page.page.unroute("**/queue/join*")
    page.page.goto(f"{site.served.url}?n=99")
    page.says("n: got 99, expected a whole number from 1 to 8")
    page.page.locator("#stage canvas").wait_for()
    assert page.scene()["token"] == 136 and from_link(page.page.url) == FIRST


def test_draw_rank_and_a_brushed_region(tab, site):
    page = tab()
    page.page.locator("#prompt textarea, #prompt input").fill("a photo of a boat")
    page.page.locator("#steps input").fill("2")
    page.page.locator("#draw").click()
    page.page.wait_for_function("() => location.search.includes('boat')")
    page.view("TokenRank")
    scene = page.until("view", "tokenrank")
    state = from_link(page.page.url)
    assert (state.source.prompt, state.source.steps) == ("a photo of a boat", 2)
    image = site.explorer.captured(state.source).record(None, "auto").restrict("image")
    assert np.array_equal(np.float32(scene["values"]), tokenrank(image, head_weights="lambda2")[0].numpy())
    box = page.page.locator(".tr-frame").bounding_box()
    page.page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] / 16 + 5, box["y"] + 5)
    page.page.mouse.up()
    scene = page.until("region", [0, 1])
    region = torch.zeros(256)
    region[:2] = 1
    expected = tokenrank(image, head_weights="lambda2", personalization=region)[0]
    assert np.allclose(scene["values"], expected.numpy(), rtol=1e-6)


def test_a_head_is_chosen_from_the_grid_and_nothing_is_loaded_from_elsewhere(tab, site):
    page = tab(FIRST.of(view="heads"))
    scene = page.scene()
    values = [tile["lambda2"] for tile in scene["tiles"]]
    assert values == sorted(values, reverse=True)
    assert not page.page.locator("#direction").is_visible()  # without a token, each head's TokenRank is shown
    chosen = scene["tiles"][2]
    page.page.locator(".tr-tile").nth(2).click()
    page.until("view", "walk")
    state = from_link(page.page.url)
    assert (state.layer, state.heads) == (chosen["layer"], str(chosen["head"]))
    assert len(page.requests) > 10 and page.hosts == {urlsplit(site.served.url).netloc}


def test_wrong_files_and_a_given_picture_s_segments(tab, site, small_picture, tmp_path):
    page = tab(FIRST.of(num_anchors=16))
    wrong, large = tmp_path / "notes.png", tmp_path / "large.png"
    wrong.write_text("no picture")
    Image.effect_noise((1400, 1400), 90).save(large)
    assert large.stat().st_size > UPLOAD
    page.page.get_by_role("tab", name="Give a picture").click()
    page.give(large)
    page.says("size")
    page.give(wrong)
    page.says("cannot read notes.png as a picture: it is no image of a known format")
    assert page.scene()["size"] == [128, 128] and "picture=" not in page.page.url
    page.give(small_picture)
    page.until("size", [96, 64])
    page.view("Segments")
    scene = page.until("view", "segments")
    state = from_link(page.page.url)
    found = segmented(site.explorer.captured(state.source), state, Watch())
    assert scene["title"].startswith(f"{len(found.labels.unique())} segment")
    assert scene["anchors"] == found.anchors.tolist()


def test_words_guidance_and_a_mistake(tab, site):
    page = tab(FIRST.of(view="words", steps=2, heads="mean"))
    assert page.scene()["legend"][0][0] == "church"
    page.page.locator("#words textarea, #words input").fill("boat")
    page.page.keyboard.press("Enter")
    page.says("'boat' does not occur in the caption 'a photo of a church'")
    assert page.scene()["legend"][0][0] == "church"
    page.view("Guidance")
    scene = page.until("view", "guidance")
    names = ["unguided", "SAG", "TokenRank", "difference:SAG", "difference:TokenRank"]
    assert list(scene["images"]) == names and len(scene["heats"]) == 4
    page.page.locator(".tr-slider").fill("20")
    assert "20%" in page.page.locator(".tr-cut").get_attribute("style")


def test_pag_is_ticked_and_a_name_that_the_hub_lacks_is_typed(tab, site, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    page = tab(FIRST.of(view="guidance", steps=2, arms=("sag",)))
    page.page.get_by_label("PAG", exact=True).check()
    page.page.wait_for_function("() => location.search.includes('pag')")
    state = from_link(page.page.url)
    assert state.arms == ("sag", "pag")
    shown = base64.b64decode(page.scene()["images"]["PAG"].partition(",")[2])
    expected = site.explorer.scene(state).images["PAG"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), np.asarray(expected))
    assert page.page.get_by_label("Scale of PAG").first.is_visible()
    page.page.locator("#model input").fill("nobody/nothing")
    page.page.locator("#model input").press("Enter")
    page.says("no model could be loaded from nobody/nothing")
    assert from_link(page.page.url) == state


def test_the_link_restores_the_state_and_files_hold_it_without_a_server(tab, site, browser, tmp_path):
    asked = FIRST.of(token=40, n=3, direction="incoming", heads="mean")
    page = tab(asked)
    scene = page.scene()
    assert (scene["token"], scene["shown"]) == (40, 2)
    assert from_link(page.page.url) == asked
    assert np.array_equal(np.float32(scene["values"]), expected_walk(site, asked, 3))
    saved = np.asarray(Image.open(io.BytesIO(page.saved("#png"))))
    assert np.array_equal(saved, np.asarray(picture_of(site.explorer.scene(asked))))
    assert "multi_bounce(record, 40, n=3" in page.page.locator("#python textarea").input_value()
    file = tmp_path / "walk.html"
    file.write_bytes(page.saved("#html"))
    context = browser.new_context(offline=True)
    alone = context.new_page()
    alone.goto(file.as_uri())
    values = alone.evaluate("() => document.getElementById('stage').stage.values()")
    assert np.array_equal(np.float32(values), expected_walk(site, asked, 3))
    box = alone.locator(".tr-frame").bounding_box()
    alone.locator(".tr-frame").click(position={"x": box["width"] * 2.5 / 16, "y": box["height"] * 1.5 / 16})
    values = alone.evaluate("() => document.getElementById('stage').stage.values()")
    assert np.allclose(values, expected_walk(site, asked.of(token=18), 3), rtol=1e-4, atol=1e-9)
    context.close()


def test_two_tabs_do_not_mix_and_drawing_can_be_cancelled(tab, site):
    first, second = tab(FIRST.of(token=7)), tab(FIRST.of(token=200, direction="incoming"))
    first.page.locator("#steps input").fill("400")
    first.page.locator("#draw").click()
    second.click_token(1, 1)
    scene = second.until("token", 17)  # while the other one draws
    asked = FIRST.of(token=17, direction="incoming")
    assert np.array_equal(np.float32(scene["values"]), expected_walk(site, asked, 2))
    first.page.locator("#cancel").click()
    first.says("Cancelled.")
    assert first.scene()["token"] == 7
    assert not site.explorer.is_ready(FIRST.of(steps=400).source)
    assert from_link(first.page.url) == FIRST.of(token=7)


def test_the_page_fits_a_telephone_and_its_controls_have_names(browser, site):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(site.address(FIRST))
    page.wait_for_selector(".tr-frame img")
    page.locator("#draw").wait_for()
    page.wait_for_function(READY)
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= 390
    for part in (".tr-frame", "#draw"):
        assert page.locator(part).bounding_box()["width"] >= 0.92 * 390
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('#stage button, #stage input, #stage select')]"
        ".filter((e) => !e.getAttribute('aria-label') && !e.textContent.trim() && !e.labels?.length).length"
    )
    assert unnamed == 0
    page.locator("#draw").scroll_into_view_if_needed()
    assert page.evaluate("() => document.querySelector('#stage').getBoundingClientRect().top") < -200
    page.locator("#draw").click()  # what is drawn comes into sight
    page.wait_for_function("() => Math.abs(document.querySelector('#stage').getBoundingClientRect().top) < 5")
    context.close()
