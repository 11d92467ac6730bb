"""Every block of Python in README and docs runs; a Hub id stands for an embedded model, and steps are few.

The rule is written down in docs/internals/docs.md.
"""

import re
from functools import cache, wraps
from pathlib import Path

import numpy as np
import pytest
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    ModularPipeline,
    StableDiffusionXLAutoBlocks,
)
from PIL import Image
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification

from scripts.docs.places import ROOT, pages
from tests.tiny_drawn_readers import VIDEO_READERS
from tests.tiny_models import pipeline as tiny_pipeline
from tokenrank_guidance import tiny

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STEPS = 2
README, FRONT = ROOT / "README.md", ROOT / "docs" / "index.md"
WITH_BLOCKS = [page for page in pages() if BLOCK.search(page.read_text()) and page != FRONT]


def blocks(page):
    """Each block with blank lines before it, so that an error names the page's own line."""
    text = page.read_text().replace('"cuda"', '"cpu"')
    return ["\n" * text.count("\n", 0, found.start(1)) + found[1] for found in BLOCK.finditer(text)]


@cache
def embedded(name="tiny-sd"):
    pipe = tiny.loader.load_pipeline(name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pipeline(from_pretrained):
    """`from_pretrained` of pipelines, which loads folders as ever."""

    def load(cls, source, **options):
        if isinstance(source, Path):
            return from_pretrained.__func__(cls, source, **options)
        assert HUB_ID.fullmatch(source)
        if cls.__name__ == "CogVideoXPipeline":
            return VIDEO_READERS["CogVideoX"].build()
        return embedded("tiny-flux" if "Flux" in cls.__name__ else "tiny-sd")

    return classmethod(load)


def classifier(cls, source, **options):
    """`from_pretrained` of classifiers."""
    assert HUB_ID.fullmatch(source)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=10, **small))


def modular(cls, source):
    """`from_pretrained` of modular pipelines: SDXL's, with tiny parts of its real classes."""
    assert HUB_ID.fullmatch(source)
    pipe, parts = StableDiffusionXLAutoBlocks().init_pipeline(), tiny_pipeline("sdxl").components
    pipe.update_components(
        **{name: parts[name] for name in pipe._component_specs if parts.get(name) is not None}
    )
    pipe.unet.register_to_config(sample_size=16)  # of squares, as in the original
    pipe.load_components = lambda **options: None  # they are there
    return pipe


def few_steps(set_timesteps):
    @wraps(set_timesteps)
    def set_few(self, num_inference_steps=None, device=None, sigmas=None, **more):
        if sigmas is not None:
            return set_timesteps(self, device=device, sigmas=sigmas[:: -(-len(sigmas) // STEPS)], **more)
        return set_timesteps(self, min(num_inference_steps, STEPS), device=device, **more)

    return set_few


@pytest.fixture
def small_world(tmp_path, monkeypatch):
    """Embedded models for Hub ids, few steps, and a folder with a photograph."""
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", pipeline(DiffusionPipeline.from_pretrained))
    monkeypatch.setattr(AutoModelForImageClassification, "from_pretrained", classmethod(classifier))
    monkeypatch.setattr(tiny, "load_pipeline", embedded)
    monkeypatch.setattr(ModularPipeline, "from_pretrained", classmethod(modular))
    for scheduler in (CogVideoXDDIMScheduler, DDIMScheduler, FlowMatchEulerDiscreteScheduler):
        monkeypatch.setattr(scheduler, "set_timesteps", few_steps(scheduler.set_timesteps))
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore:unknown to this model", "ignore:the model does not know all of")
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page, small_world):
    names: dict = {}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)


def test_the_front_page_has_the_blocks_of_readme():
    """Which are run once."""
    assert [block.lstrip() for block in blocks(FRONT)] == [block.lstrip() for block in blocks(README)]


def test_pages_that_should_have_blocks_have_them():
    assert {"README.md", "docs/start.md", "docs/guides/chain.md"} <= {
        str(page.relative_to(ROOT)) for page in WITH_BLOCKS
    }
