"""Every reader on every bad file: what it reads, or one line that says why not, and in time."""

import shutil
import signal
from pathlib import Path

import pytest
import torch

from diffseg.passes.images import read_images
from eval.data import UnreadableImage, open_images
from eval.data.decode import decode_mask
from eval.fidelity import open_generated
from eval.fidelity.statistics import Gaussian
from eval.generate.prompts import read_prompts
from eval.generate.store import MANIFEST, ArmStore, read_manifest
from eval.journal import Journal
from eval.masking.loading import read_head
from eval.masking.store import Measured
from eval.masking.task import best_layers
from eval.metrics.frechet import check_inception
from eval.running import image_journals
from eval.segmentation.arms import best_thresholds
from eval.segmentation.scenes import open_scenes
from eval.zero_shot.objects import open_objects
from tests.files.bad_files import BAD, make
from tokenrank_guidance.errors import TokenRankError
from tokenrank_guidance.files.lines import read_lines
from tokenrank_guidance.files.pictures import decode_image, open_picture
from tokenrank_guidance.files.reading import read_file, read_json
from tokenrank_guidance.files.tensors import load_tensors
from tokenrank_guidance.tiny.checkpoint import TrainingState

SECONDS = 30


class TooSlowError(BaseException):
    """Not caught by what is tested."""


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("bad"))


@pytest.fixture
def in_time():
    def stop(*_):
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def placed(path: Path, target: Path) -> Path:
    """The folder in which a copy of the file (of a link: the link) has the name that its reader looks for."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and not path.is_symlink():
        shutil.copy(path, target)
    else:
        target.symlink_to(path)
    return target.parent


def masked(folder, config, shape):
    """The journals of eval.masking."""
    return image_journals(folder, config, Measured, shape)


READERS = {
    "picture": lambda path, _: read_images(open_picture(path)),
    "bytes": lambda path, _: decode_image(read_file(path)),
    "mask": lambda path, _: decode_mask(read_file(path)),
    "images": lambda path, _: list(open_images(path)),
    "scenes": lambda path, _: list(open_scenes(str(path))),
    "objects": lambda path, _: open_objects(f"imagenet-seg:{path}", "cat", None)[0],
    "lines": lambda path, _: read_lines(path),
    "prompts": lambda path, _: read_prompts(str(path), None, False),
    "json": lambda path, _: read_json(path),
    "tensors": lambda path, _: load_tensors(path),
    "statistics": lambda path, _: Gaussian.load(path),
    "head": lambda path, _: read_head(path),
    "layers": lambda path, _: best_layers(path),
    "thresholds": lambda path, _: best_thresholds(path, "miou"),
    "inception": lambda path, _: check_inception(path),
    "checkpoint": lambda path, _: TrainingState({"x": torch.nn.Linear(2, 2)}).load(path),
    "journal": lambda path, folder: Journal(placed(path, folder / "j") / "j", {}).close(),
    "masked": lambda path, folder: masked(placed(path, folder / "images-0.jsonl"), {}, (1, 2)).records(),
    "manifest": lambda path, folder: read_manifest(placed(path, folder / MANIFEST)),
    "batches": lambda path, folder: ArmStore(placed(path, folder / "batches-0.jsonl"), {}).journals.records(),
    "arm": lambda path, folder: open_generated([placed(path, folder / MANIFEST)]),
}


@pytest.mark.parametrize("reader", READERS)
def test_bad_files_are_read_or_refused_in_one_line(bad, tmp_path, in_time, reader):
    for name in BAD:
        signal.alarm(SECONDS)
        said = answer(reader, bad / name, tmp_path / name)
        assert said.strip() and "\n" not in said.strip(), name


def answer(reader: str, path: Path, own: Path) -> str:
    """What the reader says; "read" where it has nothing to say. Any other error fails the test."""
    try:
        READERS[reader](path, own)
    except (ValueError, OSError, TokenRankError) as error:
        return str(error)
    return "read"


def test_a_folder_of_bad_files_gives_pictures_and_unreadable_ones(tmp_path, in_time):
    source = open_images(make(tmp_path))
    assert len(source) == 6
    for index in range(len(source)):
        with pytest.raises(UnreadableImage, match=r"image \d \(.*\) cannot be read: \w") as caught:
            source[index]
        assert "\n" not in str(caught.value)
    assert len(source.digest) == 64
