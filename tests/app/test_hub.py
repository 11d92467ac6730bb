"""Models by their names on the Hub: out of a cache that the test fills, and from a Hub that has none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm

from tests.hub import cached, empty_hub
from tests.tiny_vits import timm_vit

ROOT = Path(__file__).parents[2]
SMALL = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 8, "img_size": 32}
# A program of its own, as libraries look once where the cache is: what each model shows, and as copied code.
SHOWS = """
import json, sys
from pathlib import Path
import numpy as np
from tests.app.conftest import Explorer, Settings, Source, State
from tokenrank_guidance.app.code import python_of
from tokenrank_guidance.files.pictures import open_picture

explorer = Explorer(Settings(models=("tiny-sd",)))
digest = explorer.keep_picture(open_picture(Path(sys.argv[1])))
for name in sys.argv[2:]:
    try:
        state = State(Source(model=name, picture=digest, timestep=100), token=3)
        captured, scene = explorer.captured(state.source), explorer.scene(state)
        names = {}
        exec(python_of(captured, state, sys.argv[1]), names)
        assert np.array_equal(names["heat"].numpy(), scene.heats[scene.shown].values)
        said = f"{type(captured.opened.network).__name__} {scene.grid[0]}x{scene.grid[1]}"
    except ValueError as error:
        said = str(error)
    print(json.dumps([name, said]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory, model):
    """HF_HOME with a pipeline, a vision transformer of transformers, and two of timm."""
    root = tmp_path_factory.mktemp("home")
    cached(root, "owner/pipeline", Path(model("sd")))
    folder = tmp_path_factory.mktemp("timm")
    timm.models.save_for_hf(
        timm_vit("vit_tiny_patch16_224"), folder, model_args=SMALL, safe_serialization=True
    )
    for name in ("timm/tiny", "owner/of-timm"):
        cached(root, name, folder)
    return root


def program(arguments, **environment):
    """What it prints, with the repository to import from."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    run = subprocess.run([sys.executable, *map(str, arguments)], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_every_kind_of_model_is_opened_by_its_name(home, vit, picture, tmp_path):
    cached(home, "owner/vit", Path(vit))
    names = ["owner/pipeline", "owner/vit", "timm/tiny", "owner/of-timm", "owner/nothing", "timm/nothing"]
    offline = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    shown = program(["-c", SHOWS, picture, *names], **offline)
    found = dict(map(json.loads, shown.splitlines()))
    assert found["owner/pipeline"] == "UNet2DConditionModel 6x10"
    assert found["owner/vit"] == "Dinov2WithRegistersModel 4x4"
    assert found["timm/tiny"] == found["owner/of-timm"] == "VisionTransformer 4x4"
    for name in ("owner/nothing", "timm/nothing"):
        assert found[name].startswith(f"no model could be loaded from {name}: Cannot reach")
    given = ["--model", "owner/vit", "--image", picture, "--export", tmp_path / "shown"]
    program(["-m", "tokenrank_guidance", "app", *given], **offline)
    assert (tmp_path / "shown" / "shown.html").is_file()


@pytest.mark.slow
def test_a_name_that_the_hub_lacks_or_keeps_for_some_is_said(picture, tmp_path):
    with empty_hub() as address:
        names = ["owner/nothing", "owner/gated", "timm/nothing", "timm/gated"]
        online = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}
        shown = program(["-c", SHOWS, picture, *names], **online)
    found = dict(map(json.loads, shown.splitlines()))
    for owner in ("owner", "timm"):
        lacking = f"no model could be loaded from {owner}/nothing: the Hub has nothing of that name"
        assert found[f"{owner}/nothing"].startswith(lacking)
        assert "agree to its terms there" in found[f"{owner}/gated"]
