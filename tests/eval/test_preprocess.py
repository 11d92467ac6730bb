"""From picture to input."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, ViTImageProcessor

from eval.preprocess import Preprocessing, of_processor, of_timm
from tests import tiny_vits

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))


def test_resizes_the_short_side_to_248_of_224_and_crops_the_centre():
    prepare = Preprocessing((224, 224), (0.5,) * 3, (0.5,) * 3)
    resized = PICTURE.resize((372, 248), Image.Resampling.BICUBIC)
    expected = np.asarray(resized.crop((74, 12, 298, 236)))
    assert np.array_equal(np.asarray(prepare.crop(PICTURE)), expected)
    pixels = torch.from_numpy(expected.copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(prepare(PICTURE), pixels * 2 - 1)
    torch.testing.assert_close(prepare.pixels(prepare(PICTURE)[None])[0], pixels)


@pytest.mark.parametrize("size", [(32, 64), (64, 32), (224, 224)])
def test_any_size_of_picture_covers_any_crop(size):
    prepare = Preprocessing(size, (0.5,) * 3, (0.5,) * 3)
    for picture in (PICTURE, PICTURE.rotate(90, expand=True), PICTURE.resize((1, 1)), PICTURE.convert("L")):
        assert prepare(picture).shape == (3, *size)


def test_reads_transformers_processors():
    plain = of_processor(ViTImageProcessor(size={"height": 32, "width": 64}, image_mean=[0.1, 0.2, 0.3]))
    assert plain.size == (32, 64) and plain.mean == (0.1, 0.2, 0.3) and plain.enlarged == 248 / 224
    cropping = of_processor(CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=48))
    assert cropping.size == (48, 48) and cropping.enlarged == 64 / 48


def test_reads_timms_settings():
    model = tiny_vits.build("timm_vit")
    prepare = of_timm(model)
    assert prepare.size == (224, 224) and prepare.mean == (0.5, 0.5, 0.5)
    assert round(prepare.enlarged * 224) == 248
