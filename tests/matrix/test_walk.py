"""Every pipeline class of the installed diffusers is guided, or refused with a reason of its own."""

import re

import pytest
import torch

from sag.refused_schedulers import REFUSED as SCHEDULERS
from tests.matrix.rows import ROWS
from tests.matrix.support import HEADLINE, PAGE, page
from tests.matrix.walk import IMAGES, VIDEO, classes, key_of, walk
from tokenrank_guidance.families.refused import REFUSED
from tokenrank_guidance.families.refused_pipelines import REFUSED_PIPELINES
from tokenrank_guidance.families.registry import FAMILIES

PICTURES = [one for one in walk() if one.makes in (IMAGES, VIDEO)]


def test_what_every_pipeline_makes_is_known():
    assert not [one.name for one in walk() if one.makes == "unknown"]
    assert len(PICTURES) > 300


def test_every_pipeline_is_guided_or_refused():
    """But those of which diffusers has an empty class here."""
    assert not [one.name for one in PICTURES if one.open and not one.lacks]


def test_no_reason_is_that_nothing_is_known():
    """Neither of a pipeline class, nor of any that is written down."""
    unknown = r"not known here|unknown here|has neither a unet|not tried"
    assert not [one.name for one in walk() if re.search(unknown, one.refused)]
    listed = REFUSED | REFUSED_PIPELINES | SCHEDULERS
    habits = (one.refused for family in FAMILIES for one in family.pipelines.values())
    assert not [why for why in (*listed.values(), *habits) if re.search(unknown, why)]


def test_every_denoiser_is_read_or_refused_with_a_reason_of_its_own():
    known = {name for family in FAMILIES for name in family.models} | set(REFUSED)
    found = {name for one in walk() if one.name not in REFUSED_PIPELINES for name in one.denoisers if name}
    assert not found - known - {"PriorTransformer"}  # whose pipelines have a UNet beside it


def test_every_row_is_of_a_pipeline_that_diffusers_has():
    keys = {key_of(name) for name, _ in classes()}
    assert not [name for name in ROWS if name.partition(",")[0] not in keys]


def test_every_refusal_is_of_a_pipeline_that_diffusers_has():
    habits = {name for family in FAMILIES for name in family.pipelines}
    assert not (habits | set(REFUSED_PIPELINES)) - {name for name, _ in classes()}


@pytest.mark.matrix
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.family != "none"])
def test_a_row_is_of_its_class(name):
    """Nor is it of a class derived from it."""
    with torch.random.fork_rng(devices=[]):
        pipe = ROWS[name].build()
    assert key_of(type(pipe).__name__) == name.partition(",")[0]


def test_the_page_is_what_is_so():
    written, found = PAGE.read_text(), page()
    if written.partition(HEADLINE)[0] != found.partition(HEADLINE)[0]:
        pytest.skip("it was written for another diffusers, or beside other packages")
    assert written == found, "python -m tests.matrix.support writes it anew"
