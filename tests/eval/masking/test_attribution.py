"""Rankings by gradients, against autograd through the model's own eager maps and plain loops."""

import numpy as np
import pytest
import torch

from eval.masking import masking_ablation
from eval.masking.attribution import DAMPING, STEPS, look
from eval.masking.classifier import HeadedClassifier
from eval.masking.scorers import SCORERS
from tests import tiny_vits
from tests.eval.masking.test_ablation import batch
from tokenrank_guidance.capture import attention_gradients
from tokenrank_guidance.errors import CaptureError

SEEDS = [0, 1]
NAMES = ("gradient_chain", "gradient_rollout", "gradient_input", "integrated_gradients")


@pytest.fixture(scope="module")
def model():
    return tiny_vits.build("vit_classifier")


@pytest.fixture(scope="module")
def images():
    return batch(2)[0]


@pytest.fixture(scope="module")
def weights(model, images):
    """(∇A ⊙ A)⁺, mean over heads, of each layer, by the maps of transformers' eager attention."""
    eager = tiny_vits.build("vit_classifier")
    eager.set_attn_implementation("eager")
    output = eager(images, output_attentions=True)
    torch.testing.assert_close(output.logits, model(images).logits, atol=1e-5, rtol=0)
    gradients = torch.autograd.grad(output.logits.max(-1).values.sum(), output.attentions)
    pairs = zip(output.attentions, gradients, strict=True)
    return [(maps * own).clamp_min(0).mean(1).double().detach() for maps, own in pairs]


def mean_one(values):
    return values / values.mean(-1, keepdims=True)


def score(name, model, images):
    return SCORERS[name](look(HeadedClassifier(model, ()), images), SEEDS).double().numpy()


def test_the_chain_is_solved_as_the_dense_one(model, images, weights):
    total = sum(weights)
    chain = (total / total.sum(-1, keepdim=True)).numpy()
    n = chain.shape[-1]
    for one, found in zip(chain, score("gradient_chain", model, images), strict=True):
        start = np.eye(n)[0]
        rank = np.linalg.solve((np.eye(n) - DAMPING * one).T, (1 - DAMPING) * start)
        np.testing.assert_allclose(found, mean_one(rank[1:]), rtol=1e-3)


def test_chefers_rollout_is_the_row_of_the_product(model, images, weights):
    relevance = np.eye(weights[0].shape[-1])
    for one in weights:
        relevance = relevance + one.numpy() @ relevance
    np.testing.assert_allclose(
        score("gradient_rollout", model, images), mean_one(relevance[:, 0, 1:]), rtol=1e-3
    )


def of_patches(values):
    """|Σ over colours| of pixels, in patches of the grid, mean 1."""
    patches = values.sum(1).abs().unfold(1, tiny_vits.PATCH, tiny_vits.PATCH)
    patches = patches.unfold(2, tiny_vits.PATCH, tiny_vits.PATCH)
    return mean_one(patches.sum((-1, -2)).flatten(1).double().numpy())


def slope(model, images, classes):
    own = images.clone().requires_grad_()
    logits = model(own).logits.gather(1, classes[:, None])
    return torch.autograd.grad(logits.sum(), own)[0]


def test_gradients_of_pixels_are_the_plain_ones(model, images):
    classes = model(images).logits.argmax(-1)
    expected = of_patches(slope(model, images, classes) * images)
    np.testing.assert_allclose(score("gradient_input", model, images), expected, rtol=1e-3)
    places, shares = np.polynomial.legendre.leggauss(STEPS)
    path = sum(
        share / 2 * slope(model, images * (1 + place) / 2, classes)
        for place, share in zip(places, shares.tolist(), strict=True)
    )
    expected = of_patches(path * images)
    np.testing.assert_allclose(score("integrated_gradients", model, images), expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", ["vit_classifier", "timm_vit"])
def test_the_ablation_ranks_by_them(name):
    """In inference mode, as it measures, and beside a scorer of one layer, which they leave as it is."""
    model, data = tiny_vits.build(name), batch()
    names = ("random", "tokenrank", *NAMES)
    result = masking_ablation(model, [data], scorers=names, layers=1)
    assert [arm.scorer for arm in result.ranker.arms] == list(names)
    alone = masking_ablation(model, [data], scorers=names[:2], layers=1)
    np.testing.assert_array_equal(result.rank[:, :2], alone.rank)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_without_a_graph_it_is_said(model, images):
    with torch.no_grad(), attention_gradients(model) as attention:
        logits = model(images).logits
    with pytest.raises(CaptureError, match="left no autograd graph"):
        attention.of(logits.max())


def test_weights_that_are_frozen_do_not_matter(images):
    model = tiny_vits.build("vit_classifier").requires_grad_(False)
    assert np.isfinite(score("gradient_chain", model, images)).all()


def test_a_model_without_a_class_token_is_named():
    model = tiny_vits.build("siglip_classifier")
    with pytest.raises(ValueError, match="no class token to start at: use gradient_input"):
        score("gradient_chain", model, batch(2)[0])
