"""Settings for every test: one thread, since tiny models lose more to synchronisation than they gain."""

import os
from pathlib import Path

import pytest
import torch

from tests.shapes import check_shapes

check_shapes()

torch.set_num_threads(1)
BESIDE_CHECKOUT = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The evaluation data: `TOKENRANK_DATA`, or the folder beside the checkout; for tests marked `data`."""
    folder = Path(os.environ.get("TOKENRANK_DATA", BESIDE_CHECKOUT))
    if not (folder / "imagenette_val1000.parquet").is_file():
        pytest.skip(f"no evaluation data at {folder}; set TOKENRANK_DATA")
    return folder
