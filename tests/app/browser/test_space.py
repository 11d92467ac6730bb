"""The example Space builds its page, and loads no other model."""

import subprocess
import sys
from pathlib import Path

import pytest

SPACE = Path(__file__).parents[3] / "examples" / "space"
CHECK = """
import runpy, sys
names = runpy.run_path(sys.argv[1])
handlers = {one.fn.__name__ for one in names["demo"].fns.values() if one.fn}
assert {"load", "draw", "pick", "give", "cancel"} <= handlers, handlers
try:
    names["explorer"].model("a/b")
except ValueError as error:
    assert str(error) == "no model 'a/b' here; expected one of tiny-sd, tiny-flux", error
else:
    raise AssertionError("another model was opened")
"""


@pytest.mark.browser
def test_the_space_builds_its_page():
    subprocess.run([sys.executable, "-c", CHECK, SPACE / "app.py"], check=True)


def test_its_front_matter_names_what_is_there():
    front = (SPACE / "README.md").read_text().split("---")[1]
    facts = dict(line.split(": ", 1) for line in front.strip().splitlines())
    assert facts["sdk"] == "gradio" and int(facts["sdk_version"].split(".")[0]) >= 6
    assert (SPACE / facts["app_file"]).is_file()
    assert (SPACE / "requirements.txt").read_text().split() == ["tokenrank-guidance[app]"]
