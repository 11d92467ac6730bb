"""Every example runs to its picture; its notebook is its script; its pictures are ours."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import matplotlib
import nbformat
import pytest
import torch
from PIL import Image
from transformers import ViTImageProcessor

from tests.examples.notebooks import FOLDER, SCRIPTS, colab, notebook, written
from tests.tiny_models import pipeline
from tests.tiny_vits import SIZE, build
from tokenrank_guidance.tiny import available_models, load_pipeline
from tokenrank_guidance.tiny.sampling import sample_images

SMALL = "sdxl", "vit"  # models that the examples take from the Hub, in miniature
# What is smaller here than in the example; `OUT` gets the pictures named last.
CHANGES = {
    "guide_your_pipeline": ({"STEPS": 1, "SEEDS": [0]}, ["guided.png"]),
    "guide_sdxl": ({"MODEL": "sdxl", "STEPS": 2}, ["sdxl.png"]),
    "segment_a_photograph": ({"RESOLUTION": 128}, ["segments.png"]),
    "rank_a_vits_tokens": ({"MODEL": "vit"}, ["ranks.png", "heads.png"]),
    "explain_a_word": ({"TIMESTEPS": (500,), "DRAWS": 1}, ["word.png"]),
    "compare_scorers": ({"STEPS": 1, "SEEDS": [0], "NAMES": ["sag", "tokenrank"]}, ["scorers.png"]),
}
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with the models of `SMALL`."""
    root = tmp_path_factory.mktemp("models")
    sdxl = pipeline("sdxl")
    sdxl.unet.register_to_config(sample_size=16)  # one number, as real ones have
    sdxl.save_pretrained(root / "sdxl")
    build("vit_classifier").save_pretrained(root / "vit")
    ViTImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(root / "vit")
    return root


def changed(script: Path, models: Path) -> dict[str, object]:
    changes = CHANGES[script.stem][0]
    return {name: str(models / value) if value in SMALL else value for name, value in changes.items()}


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder to run an example in, with the pictures that it opens."""
    shutil.copytree(FOLDER / "pictures", tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_pictures(script: Path, folder: Path) -> None:
    names = CHANGES[script.stem][1]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    for name in names:
        with Image.open(folder / name) as image:
            assert min(image.size) > 200
            assert len(set(image.convert("L").resize((64, 64)).get_flattened_data())) > 20


@pytest.mark.extended
@every_script
@pytest.mark.filterwarnings("ignore::UserWarning:diffusers")
def test_its_cells_run_to_its_pictures(script, models, workplace):
    """The notebook's cells, in this process: a kernel of its own takes seconds to begin."""
    matplotlib.use("Agg")
    namespace: dict[str, object] = {}
    for cell in notebook(script).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, script.stem, "exec"), namespace)
        if "parameters" in cell.metadata.get("tags", ()):
            assert namespace.keys() >= CHANGES[script.stem][0].keys()
            namespace |= changed(script, models)
    check_pictures(script, workplace / "drawn")


@pytest.mark.slow
@every_script
def test_its_notebook_runs_in_a_kernel(script, models, workplace, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]))
    ran = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    (place,) = [i for i, cell in enumerate(ran.cells) if "parameters" in cell.metadata.get("tags", ())]
    lines = [f"{name} = {value!r}" for name, value in changed(script, models).items()]
    ran.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    NotebookClient(ran, timeout=300, resources={"metadata": {"path": str(workplace)}}).execute()
    assert any("image/png" in out.get("data", {}) for cell in ran.cells for out in cell.get("outputs", ()))
    check_pictures(script, workplace / "drawn")


@every_script
def test_its_notebook_is_made_of_it(script):
    """And so has no outputs; `python -m tests.examples.notebooks` writes it."""
    assert script.with_suffix(".ipynb").read_text(encoding="utf-8") == written(script)


@every_script
def test_its_notebook_opens_in_colab(script):
    made = notebook(script)
    assert made.cells[0].source.startswith("# ") and f"]({colab(script)})" in made.cells[0].source
    assert made.cells[1].source.startswith("import os\nimport sys\n\nif ")
    assert colab(script).endswith(f"/examples/{script.stem}.ipynb")


def test_the_examples_here_are_all_there_are():
    assert {script.stem for script in SCRIPTS} == CHANGES.keys()
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == CHANGES.keys()
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"]({name}.py)" in page and colab(FOLDER / f"{name}.py") in page for name in CHANGES)


PICTURES = json.loads((FOLDER / "pictures" / "pictures.json").read_text(encoding="utf-8"))


def test_the_pictures_are_those_that_their_page_says():
    files = {path.stem for path in (FOLDER / "pictures").glob("*.png")}
    assert files == PICTURES.keys() and len(files) >= 3
    for name, facts in PICTURES.items():
        digest = hashlib.sha256((FOLDER / "pictures" / f"{name}.png").read_bytes()).hexdigest()
        assert digest == facts["sha256"]
        assert facts["model"] in available_models()
    opened = [re.findall(r'"pictures/(\w+)\.png"', script.read_text(encoding="utf-8")) for script in SCRIPTS]
    assert {name for names in opened for name in names} <= files


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.filterwarnings("ignore::UserWarning:diffusers")
def test_a_picture_is_what_the_model_draws(name):
    """Up to what other versions and machines round otherwise."""
    facts = PICTURES[name]
    (drawn,) = sample_images(load_pipeline(facts["model"]), [facts["prompt"]], facts["seed"])
    kept = Image.open(FOLDER / "pictures" / f"{name}.png")
    pixels = [torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8) for image in (drawn, kept)]
    assert (pixels[0].float() - pixels[1].float()).abs().mean() < 8
