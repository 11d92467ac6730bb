"""`tokenrank app`: its mistakes are one line each, before anything is loaded."""

import socket
import sys

import pytest

from tokenrank_guidance.app import serving
from tokenrank_guidance.app.serving import serve
from tokenrank_guidance.app.state import State


def test_a_wrong_link_is_one_line(tokenrank, tmp_path):
    run = tokenrank("app", "--link", "view=walk&n=99", "--export", tmp_path / "shown")
    assert run.mistake == "error: n: got 99, expected a whole number from 1 to 8"
    assert not (tmp_path / "shown").exists()


def test_another_picture_than_the_link_s_is_refused(tokenrank, picture, tmp_path):
    link = "picture=" + "0" * 64
    run = tokenrank("app", "--link", link, "--image", picture, "--export", tmp_path / "shown")
    assert "is not the picture that the link was made with" in run.mistake


def test_without_gradio_the_command_to_install_it_is_said(tokenrank, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'tokenrank-guidance[app]'" in tokenrank("app").mistake


class Page:
    """Served, and ended at once."""

    url = "http://127.0.0.1:1/"

    def wait(self):
        pass


@pytest.mark.parametrize("name", ["vit", "tiny-sd"])
def test_the_page_begins_with_a_picture(tokenrank, vit, model, monkeypatch, name):
    served = []
    monkeypatch.setattr(serving, "serve", lambda *given: served.append(given) or Page())
    result = tokenrank("app", "--model", vit if name == "vit" else model(name), "--link", "steps=2").result
    ((explorer, state, *_),) = served
    assert result["url"] == Page.url
    assert explorer.is_ready(state.source) and state.source.drawn == (name != "vit")
    assert explorer.scene(state).heats


def test_an_address_that_is_taken_is_named(explorer):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot serve at 127.0.0.1:{port}: Address already in use"):
            serve(explorer, State(), "127.0.0.1", port, 1)
