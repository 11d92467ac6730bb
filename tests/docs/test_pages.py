"""Pages are short where they promise to be, lead somewhere, and say of the code what it is."""

import re

import pytest

from scripts.docs.families import GROUPS, families
from scripts.docs.places import ROOT, filled, pages

LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
README = ROOT / "README.md"


def test_readme_is_short():
    text = README.read_text()
    assert len(text.splitlines()) <= 200
    assert len(text.split()) <= 1500


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_pages_say_of_the_code_is_so(page):
    """By its words: argparse breaks lines in other places in other versions of Python."""
    text = page.read_text()
    assert "".join(filled(text).split()) == "".join(text.split()), "run python -m scripts.docs"


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page):
    links = [path for path, _ in LINK.findall(CODE.sub("", page.read_text())) if path]
    assert [path for path in links if not (page.parent / path).exists()] == []


def test_a_model_family_cannot_be_left_out(monkeypatch):
    monkeypatch.setitem(GROUPS, "videos", {})
    with pytest.raises(ValueError, match=r"has no line for .*MochiTransformer3DModel"):
        families()


def test_a_line_is_of_families_that_are_known_alike(monkeypatch):
    monkeypatch.setitem(GROUPS, "images", {"FLUX": "FluxTransformer2DModel Flux3Transformer2DModel"})
    with pytest.raises(ValueError, match="FLUX: different things are known"):
        families()
