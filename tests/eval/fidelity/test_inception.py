"""With weights of Inception's shape, untrained and of a hash made known here, FID is torch-fidelity's."""

import json

import pytest
import torch
import torch_fidelity
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as inception

from eval.fidelity.cache import features_of
from eval.fidelity.command import main
from eval.fidelity.extractor import open_extractor
from eval.fidelity.images import open_generated
from eval.fidelity.metrics import Frechet, Kernel, PrecisionRecall, Score
from eval.fidelity.statistics import gaussian_of
from eval.metrics import frechet
from tokenrank_guidance.files.digest import file_digest
from tokenrank_guidance.program import run

N = 24

pytestmark = pytest.mark.slow


class Untrained(inception.FeatureExtractorInceptionV3):
    """Inception as its layers initialise it: it asks for weights, and does not take them."""

    def load_state_dict(self, state_dict):
        assert state_dict == {}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights that eval takes for the published one, convolutions keeping the variance."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    with pytest.MonkeyPatch.context() as patched, torch.random.fork_rng(devices=[]):
        patched.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        torch.manual_seed(0)
        network = Untrained("untrained", ["2048"])
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        torch.save(network.state_dict(), path)
        patched.setattr(frechet, "INCEPTION_SHA256", file_digest(path))
        yield path


def test_numbers_are_those_of_torch_fidelity_on_the_same_folders(arm, weights, tmp_path):
    first, second = arm("none", N, shift=30), arm("real", N, seed=3)
    extractor = open_extractor("inception", weights)
    a, b = (features_of(one, extractor, tmp_path / "c") for one in open_generated([first, second]))
    assert a["features"].shape == (N, 2048) and a["features"].std(0).mean() > 1e-2
    direct = torch_fidelity.calculate_metrics(
        input1=str(first),
        input2=str(second),
        samples_find_deep=True,
        feature_extractor=extractor.name,  # of all metrics: alone, precision and recall would be VGG's
        feature_extractor_weights_path=str(weights),
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
        fid=True,
        isc=True,
        kid=True,
        prc=True,
        kid_subset_size=N,
    )
    metric = Frechet(gaussian_of(b["features"]))
    assert metric.value(a) == {"fid": direct["frechet_inception_distance"]}
    assert Score().value(a) == {"isc": direct["inception_score_mean"]}
    assert Kernel(b["features"]).value(a) == {"kid": direct["kernel_inception_distance_mean"]}
    expected = {name: direct[name] for name in ("precision", "recall")}
    assert PrecisionRecall(b["features"]).value(a) == expected
    assert direct["frechet_inception_distance"] > 1
    assert metric.value(b)["fid"] == pytest.approx(0, abs=1e-3)


def test_the_program_reports_them_by_their_own_names(arm, weights, tmp_path, capsys):
    arm("sag", N // 2, shift=30)
    options = ["--extractor", "inception", "--inception", weights, "--metrics", "isc", "--resamples", 20]
    assert run(main, [str(one) for one in [tmp_path / "arms", "--out", tmp_path / "out", *options]]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["stand_in"] is None and report["extractor"] == "inception-2015-12-05"
    direct = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "arms" / "sag"),
        samples_find_deep=True,
        feature_extractor_weights_path=str(weights),
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
        isc=True,
    )
    assert report["results"][0]["metrics"]["isc"]["value"] == direct["inception_score_mean"]
