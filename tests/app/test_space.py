"""The example Space builds its page, and loads no other model."""

import runpy
from pathlib import Path

import pytest

SPACE = Path(__file__).parents[2] / "examples" / "space"


@pytest.mark.filterwarnings("ignore")  # of Gradio and its libraries
def test_the_space_builds_its_page():
    names = runpy.run_path(str(SPACE / "app.py"))
    assert {"load", "draw", "pick", "give", "cancel"} <= {
        one.fn.__name__ for one in names["demo"].fns.values() if one.fn
    }
    with pytest.raises(ValueError, match="no model 'a/b' here; expected one of tiny-sd, tiny-flux"):
        names["explorer"].model("a/b")


def test_its_front_matter_names_what_is_there():
    front = (SPACE / "README.md").read_text().split("---")[1]
    facts = dict(line.split(": ", 1) for line in front.strip().splitlines())
    assert facts["sdk"] == "gradio" and int(facts["sdk_version"].split(".")[0]) >= 6
    assert (SPACE / facts["app_file"]).is_file()
    assert (SPACE / "requirements.txt").read_text().split() == ["tokenrank-guidance[app]"]
