"""The site is built strictly, every link of it leads somewhere, and every public name has its page."""

import importlib
import re
import subprocess
import sys
import tomllib

import pytest

from scripts.docs import api, site
from scripts.docs.fields import listed
from scripts.docs.links import broken
from scripts.docs.site import ROOT, assemble

CONFIG = ROOT / "zensical.toml"


def build(folder, config):
    """Build what lies assembled in a folder, by a configuration whose paths lead to the checkout."""
    whole = config.replace('paths = ["."]', f'paths = ["{ROOT}"]')
    (folder / CONFIG.name).write_text(whole.replace('["scripts/', f'["{ROOT}/scripts/'))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", str(folder / CONFIG.name)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.extended
def test_the_site_is_built_strictly_and_every_link_leads_somewhere(tmp_path):
    assemble(tmp_path / site.PAGES)
    built = build(tmp_path, CONFIG.read_text())
    assert built.returncode == 0, built.stdout + built.stderr
    out = tmp_path / "build" / "site"
    assert list(broken(out)) == []
    pages = {one.dotted: out / "api" / one.package / one.name / "index.html" for one in api.public()}
    assert [name for name, page in pages.items() if not page.is_file()] == []
    empty = [name for name, page in pages.items() if "doc-heading" not in page.read_text()]
    assert empty == []
    front = (out / "index.html").read_text()
    fetched = r'src="(?:https?:)?//[^"]*|<link(?! rel="canonical")[^>]*href="(?:https?:)?//[^"]*'
    assert re.findall(fetched, front) == []


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path):
    pages = tmp_path / site.PAGES
    pages.mkdir(parents=True)
    (pages / "index.md").write_text("# A page\n\n[away](nowhere.md) and [down](#nothing)\n")
    built = build(tmp_path, '[project]\nsite_name = "x"\ndocs_dir = "build/pages"\nvalidation = true\n')
    assert built.returncode != 0
    assert "2 issues" in built.stdout + built.stderr


def test_broken_links_of_a_site_are_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text('<h1 id="one">A</h1><a class=x href="../b.html">b</a>')
    (tmp_path / "b.html").write_text(
        '<a href="a/#one">a</a> <a href="a/#two">a</a> <img alt="" src=c.png> <a href="https://x.org/">x</a>'
        '<a href="../out.html">out</a> <a href="?q#top">top</a>'
    )
    assert list(broken(tmp_path)) == [
        "b.html: ../out.html",
        "b.html: a/#two (no such anchor)",
        "b.html: c.png",
    ]


@pytest.mark.parametrize("package", api.PACKAGES)
def test_every_public_name_has_its_page(package):
    """By what the package itself says, imported."""
    module = importlib.import_module(package)
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == package
    ]
    names = [name for name in getattr(module, "__all__", own) if not name.startswith("__")]
    assert set(api.names_of(package)) >= set(names)
    assert all(hasattr(module, name) for name in api.names_of(package))
    listed_pages = dict(api.pages())[f"{package}.md"]
    assert all(f"[`{name}`](" in listed_pages for name in names)


def test_every_package_with_public_names_is_in_the_reference():
    folders = {
        path.parent
        for top in ("tokenrank_guidance", "sag", "diffseg", "eval")
        for path in ROOT.glob(f"{top}/**/__init__.py")
    }
    public = {folder for folder in folders if "\n__all__ = " in (folder / "__init__.py").read_text()}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in public} <= set(api.PACKAGES)


def test_every_page_of_docs_can_be_reached_from_the_navigation():
    def leaves(items):
        for item in items:
            for value in item.values():
                yield from leaves(value) if isinstance(value, list) else [value]

    nav = set(leaves(tomllib.loads(CONFIG.read_text())["project"]["nav"]))
    pages = {path.relative_to(site.DOCS).as_posix() for path in site.DOCS.rglob("*.md")}
    packages = {f"api/{package}.md" for package in api.PACKAGES} | {"api/index.md"}
    assert nav == pages | packages


def test_fields_become_a_list():
    text = "It.\n\nscale: s ≥ 0;\n    never below.\nstart, stop: of steps.\nRaises ValueError.\nNote: no."
    bullets = "- `scale`: s ≥ 0;\n  never below.\n- `start`, `stop`: of steps."
    told = f"It.\n\n\n{bullets}\n\nRaises ValueError.\nNote: no."
    assert listed(text, None) == told
    assert listed("of its\nweights: all.", {"maps"}) == "of its\nweights: all."


def test_a_page_that_leads_out_of_docs_brings_the_file(tmp_path, monkeypatch):
    (tmp_path / "docs" / "guides").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.json").write_text("{}")
    page = tmp_path / "docs" / "guides" / "one.md"
    page.write_text("[a](../../results/a.json) and `sag.Scorer`\n\n```python\n# [x](y) `Scorer`\n```\n")
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "DOCS", tmp_path / "docs")
    site.Site(tmp_path / "out").bring(page)
    text = (tmp_path / "out" / "guides" / "one.md").read_text()
    assert "[a](../results/a.json) and [`sag.Scorer`](../api/sag/Scorer.md)" in text
    assert "# [x](y) `Scorer`" in text
    assert (tmp_path / "out" / "results" / "a.json").read_text() == "{}"
    page.write_text("[b](../../results/b.json)")
    with pytest.raises(
        ValueError, match=r"docs/guides/one.md leads to ../../results/b.json, which is no file"
    ):
        site.Site(tmp_path / "out").bring(page)
