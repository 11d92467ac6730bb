"""FID over the masked fraction, by an extractor whose features are mean colours."""

import json

import numpy as np
import pytest
import torch

from eval.masking import command, fid
from eval.masking.command import main
from eval.metrics.frechet import frechet_from_features
from tests.eval.masking.test_command import arguments, data, model  # noqa: F401  fixtures
from tokenrank_guidance.program import run


def colours(dataset):
    images = torch.stack([dataset[i] for i in range(len(dataset))])
    assert images.dtype == torch.uint8 and images.shape[1] == 3
    return {"features": images.double().mean((-2, -1))}


def test_each_point_is_the_distance_of_pictures_masked_so(model, data, tmp_path, monkeypatch, capsys):  # noqa: F811
    opened, seen = [], {}

    def extractor(*given):
        opened.append(given)

        def extract(dataset):
            found = colours(dataset)
            seen[dataset.fraction] = found["features"]
            return found

        return extract

    monkeypatch.setattr(fid, "open_extractor", extractor)
    monkeypatch.setattr(command, "check_inception", lambda weights: None)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"x")
    argv = arguments(model, data, tmp_path / "out", "--scorers", "tokenrank", "--inception", str(weights))
    assert run(main, argv) == 0
    report = json.loads(capsys.readouterr().out)
    (row,) = report["results"]
    assert opened == [("inception", weights, "cpu")]
    assert [point["fid"] for point in row["curve"]] == [
        pytest.approx(frechet_from_features(seen[fraction], seen[0.0])) for fraction in (0.25, 0.75)
    ]
    # Masked patches are the mean colour, grey: the more of them, the nearer all pictures are to it.
    spread = [float(np.std(seen[fraction].numpy(), 0).mean()) for fraction in (0.0, 0.75)]
    assert row["curve"][0]["fid"] > 0 and spread[1] < spread[0]
