"""What mattered to the class that a picture is taken for: rankings that need a backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from eval.masking.class_attention import mean_one
from eval.masking.classifier import Classifier, Images
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.capture.gradients import attention_gradients
from tokenrank_guidance.markov import AttentionGradient, GradientTransition, stationary_distribution

Scores = Float[Tensor, "batch patches"]
DAMPING = 0.5  # of restarts at the class token
STEPS = 20  # of integrated gradients


@dataclass(frozen=True, eq=False)
class Seen:
    """Pictures that were classified, as what, and all attention with its gradients."""

    classifier: Classifier
    images: Images
    classes: Int[Tensor, " images"]
    records: Sequence[AttentionRecord]
    gradients: Sequence[AttentionGradient]

    @property
    def chain(self) -> GradientTransition:
        return GradientTransition(self.gradients)


def look(classifier: Classifier, images: Images) -> Seen:
    """One pass forward and one back, from the logit of the class that each picture is taken for.

    Wherever it is called from: gradients are enabled in it.
    """
    with torch.inference_mode(False), torch.enable_grad():
        own = images.detach().clone().requires_grad_()
        with attention_gradients(classifier.model) as attention:
            logits = classifier(own).logits
        best, classes = logits.max(-1)
        return Seen(classifier, own.detach(), classes.detach(), attention.records, attention.of(best))


def gradient_chain(seen: Seen) -> Scores:
    """TokenRank of the attention that raised the logit, with every restart at the class token; mean 1."""
    start, image = _class_token(seen)
    result = stationary_distribution(seen.chain, damping=DAMPING, personalization=start)
    return mean_one(result.value[:, image])


def gradient_rollout(seen: Seen) -> Scores:
    """Chefer's: the class token's row of Π (I + mean_h (∇A ⊙ A)⁺) (arXiv 2103.15679, eq. 6); mean 1.

    In the work before it (2012.09838, eq. 13 to 15) relevance stands in the place of attention.
    """
    start, image = _class_token(seen)
    return mean_one(seen.chain.relevance(start)[:, image])


def gradient_input(seen: Seen) -> Scores:
    """Gradient × input, by captum."""
    from captum.attr import InputXGradient

    return _of_pixels(
        seen, lambda logits, images: InputXGradient(logits).attribute(images, target=seen.classes)
    )


def integrated_gradients(seen: Seen) -> Scores:
    """Integrated gradients from the mean colour in 20 steps, by captum (Sundararajan et al. 2017)."""
    from captum.attr import IntegratedGradients

    size = max(1, len(seen.images))
    return _of_pixels(
        seen,
        lambda logits, images: IntegratedGradients(logits).attribute(
            images, target=seen.classes, n_steps=STEPS, internal_batch_size=size
        ),
    )


def _of_pixels(seen: Seen, attribute: Callable[[Callable[[Images], Tensor], Images], Any]) -> Scores:
    """|Σ over colours| of what each pixel is given, summed over each patch; mean 1."""
    with torch.inference_mode(False), torch.enable_grad():
        own = seen.images.clone().requires_grad_()
        given = attribute(lambda images: seen.classifier(images).logits, own)
    grid = seen.records[-1].plane
    if grid is None:
        raise ValueError(f"{seen.records[-1].module} does not know its grid of patches")
    patches = F.adaptive_avg_pool2d(given.detach().float().sum(1, keepdim=True).abs(), grid)
    return mean_one(patches.flatten(1))


def _class_token(seen: Seen) -> tuple[Float[Tensor, " tokens"], slice]:
    """A start there, and where the patches are; ValueError for a model without one."""
    last = seen.records[-1]
    if last.class_token is None:
        raise ValueError(f"{last.module or 'the model'} has no class token to start at: use gradient_input")
    start = torch.zeros(last.tokens, dtype=seen.chain.dtype, device=last.q.device)
    start[last.class_token] = 1
    return start, last.image
