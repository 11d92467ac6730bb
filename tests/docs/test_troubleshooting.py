"""The page of errors has every text that is raised, and a topic for each."""

import re

import pytest
import torch
from torch import nn

from diffseg import Settings
from sag import GuidanceSettings
from scripts.docs import errors, troubleshooting
from scripts.docs.__main__ import TROUBLESHOOTING
from scripts.docs.errors import Message, messages
from tokenrank_guidance import capture, cli, multi_bounce, tokenrank

SOURCE = """
WHY = "nothing can be told of it"
REASONS = {"Chrome": "it shines far too much", "Short": "too short"}

def check(value, more):
    for name, holds, expected in (("rate", value > 0, "a number > 0"), ("n", more, f"at most {more}")):
        if not holds:
            raise ValueError(f"{name}: got {value!r}, expected {expected}")
    if more:
        raise CaptureError("cannot be seen: " + WHY)
    return lambda: UnsupportedError(f"{value}")
"""


def test_texts_are_read_off_the_source(tmp_path, monkeypatch):
    path = tmp_path / "sag" / "refused_schedulers.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    monkeypatch.setattr(errors, "ROOT", tmp_path)
    assert list(errors._texts_of(path)) == [
        "rate: got …, expected a number > 0",
        "n: got …, expected at most …",
        "cannot be seen: nothing can be told of it",
        "nothing can be told of it",
        "it shines far too much",
    ]


def mistakes():
    """Calls that raise, of every package."""
    uniform = torch.full((3, 3), 1 / 3)
    return {
        "scale": lambda: GuidanceSettings(sag_scale=-1),
        "anchors": lambda: Settings(anchors="none"),
        "network": lambda: capture(nn.Linear(2, 2)).__enter__(),
        "rows": lambda: tokenrank(2 * uniform),
        "start": lambda: multi_bounce(uniform, start=7, n=1),
        "damping": lambda: tokenrank(uniform, damping=1),
        "option": lambda: cli._arguments(["sample", "--scale", "much"]),
        "command": lambda: cli._arguments(["sample", "--compare", "--guidance", "sag"]),
    }


@pytest.mark.parametrize("mistake", mistakes())
def test_what_is_raised_is_on_the_page(mistake):
    with pytest.raises((ValueError, RuntimeError)) as raised:
        mistakes()[mistake]()
    text = " ".join(str(raised.value).split())
    patterns = [re.compile(".*".join(re.escape(part) for part in one.text.split("…"))) for one in messages()]
    assert [pattern.pattern for pattern in patterns if len(pattern.pattern) > 12 and pattern.search(text)]


def test_the_page_is_as_the_code_is():
    assert TROUBLESHOOTING.read_text() == troubleshooting.page(), "run python -m scripts.docs"


def test_every_module_has_a_topic_and_every_topic_texts():
    sorted_in = troubleshooting.by_topic(messages(), troubleshooting.topics())
    assert all(sorted_in.values())
    with pytest.raises(ValueError, match=r"topics.toml has no topic for new/module.py, which raises 'no'"):
        troubleshooting.by_topic([Message("new/module.py", "no")], troubleshooting.topics())


def test_texts_that_topics_speak_of_are_there():
    """What stands in italics in the advice is in a text; `…` is what it leaves out."""
    every = "\n".join(message.text for message in messages())
    advice = "\n".join(topic.advice for topic in troubleshooting.topics())
    spoken = [words for words in re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", advice) if words != "after"]
    lost = [
        words
        for words in spoken
        if not re.search(".*".join(re.escape(part.strip()) for part in words.split("…")), every)
    ]
    assert lost == []
