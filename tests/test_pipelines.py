"""Which pipeline a name means."""

import pytest
import torch

from tokenrank_guidance import pipelines
from tokenrank_guidance.pipelines import load_model


@pytest.mark.parametrize("name", ["tiny-dit", "a b/c", "x/y/z", "no-such-folder/"])
def test_a_name_that_means_no_model_is_refused_without_asking_the_hub(name):
    with pytest.raises(ValueError, match=f"^no model '{name}'; expected one of .*folder or a Hub id"):
        load_model(name, "cpu", torch.float32)


def test_an_installation_without_weights_says_so(monkeypatch):
    monkeypatch.setattr(pipelines, "available_models", tuple)
    with pytest.raises(ValueError, match="lacks the embedded models' weights"):
        load_model(None, "cpu", torch.float32)
