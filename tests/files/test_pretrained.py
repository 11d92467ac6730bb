"""Model folders run no code, ask nothing, and unpickle nothing."""

import io
import json
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from transformers import CLIPImageProcessor, ViTImageProcessor

from diffseg.settings import make_settings
from eval.masking.loading import ClassifierChoice, load_classifier
from eval.metrics import frechet, vit_extractor
from eval.segmentation.loading import load_vit
from tests import tiny_networks, tiny_vits
from tests.tiny_models import pipeline
from tokenrank_guidance.files.pretrained import load_timm
from tokenrank_guidance.pipelines import load_model
from tokenrank_guidance.tiny.evaluate.command import Classifier

VIT_READERS = {
    "masking": lambda folder: load_classifier(ClassifierChoice(str(folder), classes=("cat", "dog"))),
    "segmentation": lambda folder: load_vit(str(folder), "cpu", "float32", make_settings("default", {})),
    "extractor": vit_extractor.load_classifier,
    "tiny": Classifier,
}
KINDS = ("AutoConfig", "AutoModel", "AutoModelForImageClassification", "AutoImageProcessor", "AutoTokenizer")


class Marker:
    """Files that write a marker when they are run or unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def code(self, folder: Path) -> None:
        (folder / "evil.py").write_text(
            f"open({str(self.path)!r}, 'w').close()\n"
            "class Evil:\n    @classmethod\n    def from_pretrained(cls, *a, **k): return cls()\n"
        )

    def pickled(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(self))

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """Fails where code has run, or a question was asked, to which the answer would be yes."""
    found, answers = Marker(tmp_path / "marker"), io.StringIO("y\n" * 99)
    monkeypatch.setattr("sys.stdin", answers)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    yield found
    assert answers.tell() == 0
    assert not found.path.exists()


def changed(path: Path, **entries: object) -> None:
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | entries))


@pytest.fixture
def vit(tmp_path):
    tiny_vits.build("vit_classifier").save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("reader", VIT_READERS)
def test_code_of_a_vits_folder_is_not_run(vit, marker, reader, known):
    marker.code(vit)
    entries = {"auto_map": dict.fromkeys(KINDS, "evil.Evil")}
    changed(vit / "config.json", **entries, **({} if known else {"model_type": "evil"}))
    changed(vit / "preprocessor_config.json", **entries, image_processor_type="Evil")
    with pytest.raises(ValueError, match=f"could be loaded from {vit}: .*contains custom code") as caught:
        VIT_READERS[reader](vit)
    assert "\n" not in str(caught.value)


def test_code_of_a_tokenizer_is_not_run(tmp_path, marker):
    tiny_vits.build("clip").save_pretrained(tmp_path / "clip")
    tiny_networks.tokenizer(77).save_pretrained(tmp_path / "clip")
    CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=32).save_pretrained(tmp_path / "clip")
    marker.code(tmp_path / "clip")
    both = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    changed(tmp_path / "clip" / "tokenizer_config.json", auto_map=both, tokenizer_class="Evil")
    VIT_READERS["masking"](tmp_path / "clip")  # by transformers' own tokenizer for the model's type


@pytest.mark.parametrize("reader", VIT_READERS)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "model.pt"])
def test_pickled_weights_are_not_opened(vit, marker, reader, name):
    (vit / "model.safetensors").unlink()
    marker.pickled(vit / name)
    with pytest.raises(ValueError, match=r"no model could be loaded from .*no file named model\.safetensors"):
        VIT_READERS[reader](vit)


@pytest.mark.parametrize("reader", VIT_READERS)
def test_a_damaged_folder_is_one_line(vit, reader):
    whole = (vit / "model.safetensors").read_bytes()
    for name, content in (
        ("model.safetensors", whole[: len(whole) // 2]),
        ("config.json", b'{"model_type": "vit", "hidden_size": "many"}'),
        ("config.json", b"[]"),
        ("preprocessor_config.json", b"{"),
    ):
        before = (vit / name).read_bytes()
        (vit / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"\w") as caught:
            VIT_READERS[reader](vit)
        assert "\n" not in str(caught.value) and str(vit) in str(caught.value)
        (vit / name).write_bytes(before)
    VIT_READERS[reader](vit)


PIPELINE_CODE = {
    "its class": {"_class_name": ["evil", "Evil"]},
    "a component's module": {"unet": ["evil", "Evil"]},
    "a component by auto_map": {"text_encoder": ["transformers", "AutoModel"]},
    "a tokenizer by auto_map": {"tokenizer": ["transformers", "AutoTokenizer"]},
    "diffusers' auto model": {"unet": ["diffusers", "AutoModel"]},
    "another module": {"unet": ["os", "system"]},
}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipe")
    pipeline("sd").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", PIPELINE_CODE)
@pytest.mark.parametrize("embedded", [False, True])
def test_code_of_a_pipelines_folder_is_not_run(pipe, marker, tmp_path, name, embedded):
    folder = tmp_path / "pipe"
    folder.mkdir()
    for path in pipe.rglob("*"):
        target = folder / path.relative_to(pipe)
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    marker.code(folder)
    if embedded:
        (folder / "training.json").write_text('{"resolution": 32}')
    entries = {"auto_map": dict.fromkeys(KINDS, "evil.Evil")}
    for part, config in (("unet", "config"), ("text_encoder", "config"), ("tokenizer", "tokenizer_config")):
        marker.code(folder / part)
        changed(folder / part / f"{config}.json", **entries, model_type="evil")
    changed(folder / "model_index.json", **PIPELINE_CODE[name])
    with pytest.raises(ValueError, match=f"no model could be loaded from {folder}") as caught:
        load_model(str(folder), "cpu", torch.float32)
    assert "\n" not in str(caught.value)


def test_pickled_weights_of_a_pipeline_are_not_opened(pipe, marker, tmp_path):
    folder = tmp_path / "pipe"
    (folder / "unet").mkdir(parents=True)
    for path in ("model_index.json", "unet/config.json"):
        (folder / path).write_bytes((pipe / path).read_bytes())
    marker.pickled(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="no model could be loaded"):
        load_model(str(folder), "cpu", torch.float32)


@pytest.fixture
def timm_folder(tmp_path):
    model = tiny_vits.timm_vit("vit_tiny_patch16_224")
    small = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 8, "img_size": 32}
    timm.models.save_for_hf(model, tmp_path / "timm", model_args=small, safe_serialization=True)
    return tmp_path / "timm", model


def test_timms_weights_are_those_of_the_folder(timm_folder):
    folder, model = timm_folder
    for name, tensor in load_timm(str(folder)).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_timms_pickled_weights_are_not_opened(timm_folder, marker):
    folder, _ = timm_folder
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pth", "x.bin"):
        marker.pickled(folder / name)
    with pytest.raises(ValueError, match=r"has no model\.safetensors .*pickled weights are not loaded"):
        load_classifier(ClassifierChoice(str(folder)))


def test_inceptions_weights_are_unpickled_only_if_they_are_the_published_ones(marker, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def fetch(url, path, hash_prefix):
        assert hash_prefix == frechet.INCEPTION_SHA256
        marker.pickled(Path(path))

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    with pytest.raises(ValueError, match="is not torch-fidelity's Inception: SHA-256"):
        frechet.fetched_inception()
