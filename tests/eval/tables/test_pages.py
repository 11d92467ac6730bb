"""Pages are made of results, and what they are filled with is what the results say."""

import importlib.util
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from eval.tables.figure import look_up, written
from eval.tables.pages import loose, pages
from eval.tables.results import FOLDERS, Result, commands, compact, planned, read_result
from eval.views import views_of
from tokenrank_guidance.program import program

ROOT = Path(__file__).parents[3]
KEPT = sorted((ROOT / "results").glob("*/*.json"))


def figure(value, low, high, **more):
    return {"value": value, "ci": [low, high], "n": 20, **more}


def fidelity(**changes):
    """A report of two arms, as eval.fidelity writes it."""
    figures = {
        "none": {"frechet_vit": figure(1326.4, 1309.0, 1343.0), "accuracy": figure(0.28, 0.256, 0.306)},
        "sag:scale=0.5": {"frechet_vit": figure(1313.2, 1299, 1327), "accuracy": figure(0.282, 0.257, 0.309)},
    }
    rows = [{"arm": arm, "n": 20, "cost": {}, "metrics": metrics} for arm, metrics in figures.items()]
    less = {"frechet_vit": figure(13.2, 4.0, 22.0, p=0.01), "accuracy": figure(-0.002, -0.02, 0.016, p=0.9)}
    report = {
        "command": "python -m eval.fidelity $OUT/drawn --out $OUT/fidelity",
        "commit": "0123456789abcdef",
        "weights": {"none": "beef", "sag:scale=0.5": "beef"},
        "config": {"out": "$OUT/fidelity"},
        "seed": 0,
        "n": 20,
        "versions": {"torch": "2"},
        "device": "a GPU",
        "date": "2026-11-27T08:00:00+00:00",
        "stand_in": None,
        "notes": [],
        "results": rows,
        "differences": [{"a": "none", "b": "sag:scale=0.5", "metrics": less}],
    }
    return report | changes


PAGE = """# A page

<!-- table: fidelity/drawn -->
| typed |
<!-- /table -->

By <!-- n: fidelity/drawn differences/none,sag:scale=0.5/frechet_vit .0f difference -->9<!-- /n -->,
accuracy is <!-- n: fidelity/drawn results/none/accuracy .1% both -->0<!-- /n --> of
all <!-- n: fidelity/drawn n d -->0<!-- /n -->.
"""


@pytest.fixture
def checkout(tmp_path):
    """`checkout(page, **changes)`: a folder with a page in docs and one result."""

    def make(page=PAGE, **changes):
        (tmp_path / "results" / "fidelity").mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / "fidelity" / "drawn.json").write_text(json.dumps(fidelity(**changes)))
        (tmp_path / "results" / "experiments.toml").write_text('[masking.vit]\ncommands = ["python"]\n')
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / "page.md").write_text(page)
        return tmp_path

    return make


def said(root, capsys, *arguments, code=2):
    assert program("eval.tables", ["--root", str(root), *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return captured.err.strip().splitlines()[-1]


def test_places_are_filled_and_then_agree(checkout, capsys):
    root = checkout()
    assert "docs/page.md differs from the results, from line 4 on" in said(root, capsys, "--check")
    assert (root / "docs" / "page.md").read_text() == PAGE  # --check changes nothing
    said(root, capsys, code=0)
    text = (root / "docs" / "page.md").read_text()
    assert "typed" not in text
    assert "| none | 1326 (1309–1343) | 28.0 % (25.6–30.6) | – | – |" in text
    link = "[fidelity/drawn](../results/fidelity/drawn.json)"
    assert f"{link}: n = 20, commit 0123456, a GPU, 2026-11-27" in text
    prose = re.sub(r"<!--.*?-->", "", text).strip().split("\n\n")[-1]
    told = ["", "By **+13 (+4 to +22), p = 0.01**,", "accuracy is 28.0 % (25.6–30.6) of", "all 20."]
    assert prose.splitlines() == told
    assert said(root, capsys, "--check", code=0) == "pages and results agree"
    said(root, capsys, code=0)
    assert (root / "docs" / "page.md").read_text() == text


def test_a_view_is_chosen_by_its_name(checkout, capsys):
    root = checkout("<!-- table: fidelity/drawn differences -->\n<!-- /table -->\n")
    said(root, capsys, code=0)
    text = (root / "docs" / "page.md").read_text()
    assert "| none − sag:scale=0.5 | **+13 (+4 to +22), p = 0.01** | −0.2 (−2.0 to +1.6), p = 0.9 |" in text


def test_differences_of_several_reports_are_tested_together(checkout, capsys):
    """Holm by hand: of p .01, .04 and .03 three, one and two times as much, none below the one before."""
    names = ["drawn", "more", "last"]
    asked = " ".join(f"fidelity/{name}" for name in names)
    root = checkout(f"<!-- table: differences/miou {asked} -->\n<!-- /table -->\n")
    for name, chance in zip(names, (0.01, 0.04, 0.03), strict=True):
        less = [{"a": "x", "b": "y", "metrics": {"miou": figure(0.02, 0.01, 0.03, p=chance)}}]
        (root / "results" / "fidelity" / f"{name}.json").write_text(json.dumps(fidelity(differences=less)))
    said(root, capsys, code=0)
    text = (root / "docs" / "page.md").read_text()
    for name, (chance, holm) in zip(
        names, (("0.01", "0.03"), ("0.04", "0.06"), ("0.03", "0.06")), strict=True
    ):
        link = f"[fidelity/{name}](../results/fidelity/{name}.json)"
        assert f"| {link} | 20 | x − y | **+0.020 (+0.010 to +0.030)** | {chance} | {holm} |" in text


def test_what_waits_for_its_experiment_says_so(checkout, capsys):
    root = checkout("<!-- table: masking/vit -->\n<!-- /table -->\n")
    assert said(root, capsys, code=0).endswith("1 tables, 1 places wait for results, filled")
    assert "*not measured yet; `results/experiments.toml`" in (root / "docs" / "page.md").read_text()


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<!-- table: masking/absent -->\n<!-- /table -->", "nor an experiment of that name"),
        (
            "\n<!-- table: fidelity/drawn best -->\n<!-- /table -->",
            "line 2: fidelity/drawn has no view",
        ),
        (
            "<!-- table: differences/miou -->\n<!-- /table -->",
            "differences/FIELD names no field or no report",
        ),
        ("<!-- table: differences/ fidelity/drawn -->\n<!-- /table -->", "names no field or no report"),
        (
            "<!-- table: differences/miou fidelity/drawn -->\n<!-- /table -->",
            "fidelity/drawn has no differences of miou with a p",
        ),
        (
            "<!-- table: differences/miou fidelity/absent -->\n<!-- /table -->",
            "nor an experiment of that name",
        ),
        ("<!-- table: fidelity/drawn -->\n", "<!-- table: fidelity/drawn --> opens or closes no place"),
        ("It is <!-- n: fidelity/drawn n -->1<!-- /n -->", "expected KIND/NAME KEY FORMAT [PART]"),
        (
            "<!-- n: fidelity/drawn results/pag/x d -->1<!-- /n -->",
            "no 'pag'; expected one of none, sag",
        ),
        ("It is <!-- n: fidelity/drawn results/none .1f -->1<!-- /n -->", "results/none is no number"),
        ("It is <!-- n: fidelity/drawn n .1q -->1<!-- /n -->", "'.1q' is no format for 20"),
        ("<!-- n: fidelity/drawn n d -->1<!-- /n -->", "begins a line, which is HTML then"),
        ("It is <!-- n: fidelity/drawn n d half -->1<!-- /n -->", "part 'half' of n is unknown"),
    ],
)
def test_a_wrong_place_is_named(checkout, capsys, page, words):
    assert words in said(checkout(page), capsys)


@pytest.mark.parametrize(
    "text",
    [
        "| none | 0.162 (0.145–0.179) |",
        "| none | **−0.017 (−0.025 to −0.008)** |",
        "| none | 0.16 [0.14, 0.18] |",
        "it beats it by 0.040 (0.031–0.048)",
        "71.8 % (67.7–75.6)",
        "lower (.598 (.546–.647))",
    ],
)
def test_an_interval_outside_a_place_is_found(checkout, capsys, text):
    page = f"# A page\n\n{text}\n"
    assert [line for line, _ in loose(page)] == [3]
    assert "page.md, line 3: " in said(checkout(page), capsys, "--check")


@pytest.mark.parametrize(
    "text",
    [
        "| `threshold` | 1.0 | scores above it are blurred |",
        "`capture` (2.0 to 3.1 of torch)",
        "```\n0.162 (0.145–0.179)\n<!-- table: KIND/NAME -->\n```",
        "<!-- n: a b c -->0.162 (0.145–0.179)<!-- /n -->",
        "[2023](https://arxiv.org/abs/2210.00939)",
    ],
)
def test_other_numbers_may_stand_anywhere(text):
    assert not list(loose(text))


def test_a_number_of_per_cent_and_of_nothing():
    report = {"x": None, "y": 0.5, "results": [{"scorer": "a", "auc": figure(0.5, None, None)}]}
    assert look_up(report, "results/a/auc/ci") == [None, None]
    assert written(report, ["results/a/auc", ".1p", "both"]) == "50.0"
    assert written(report, ["results/a/auc", ".1p", "ci"]) == "–"
    assert written(report, ["results/a/auc", "+.1p", "both"]) == "+50.0"
    assert written(report, ["results/a/auc", "+.1p", "difference"]) == "+50.0"
    with pytest.raises(ValueError, match="x is no number"):
        written(report, ["x", "d"])


def test_a_row_is_found_by_a_name_that_it_alone_has():
    pairs = [("a", 1), ("b", 1), ("b", 2)]
    rows = [{"arm": f"{name}@{layer}", "scorer": name, "layer": layer} for name, layer in pairs]
    report = {"results": rows}
    assert look_up(report, "results/a/layer") == look_up(report, "results/b@1/layer") == 1
    with pytest.raises(ValueError, match=r"there is no 'b'; expected one of a@1, b@1, b@2, a$"):
        look_up(report, "results/b")


def test_a_finished_report_is_kept_without_the_machines_folders(tmp_path, monkeypatch, capsys):
    report = fidelity(command="python -m eval.fidelity /mnt/x/out/drawn --reference /data/real.parquet")
    report["config"] = {"out": "/mnt/x/out/fidelity", "reference": "/data/real.parquet"}
    (tmp_path / "report.json").write_text(json.dumps(report))
    given = ("keep", str(tmp_path), "fidelity/drawn")
    monkeypatch.setenv("DATA", "/data/")
    monkeypatch.delenv("OUT", raising=False)
    assert "names the folder /mnt/x/out/drawn: set one of DATA, MODELS, OUT" in said(tmp_path, capsys, *given)
    monkeypatch.setenv("OUT", "/mnt/x/out")
    said(tmp_path, capsys, *given, code=0)
    kept = read_result(tmp_path, "fidelity/drawn")
    assert kept is not None
    assert kept["command"] == "python -m eval.fidelity $OUT/drawn --reference $DATA/real.parquet"
    assert kept["config"] == {"out": "$OUT/fidelity", "reference": "$DATA/real.parquet"}
    assert kept["results"] == report["results"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"command": None}, "command: input should be a valid string, got None"),
        ({"weights": 3}, "weights"),
        ({"command": "python -m http.server"}, "a report of http.server is none of this project's programs"),
        ({"command": "python -m eval.journal"}, "reports of eval.journal have no tables"),
    ],
)
def test_what_is_no_report_is_not_kept(tmp_path, capsys, changes, words):
    (tmp_path / "report.json").write_text(json.dumps(fidelity(**changes)))
    assert words in said(tmp_path, capsys, "keep", str(tmp_path / "report.json"), "fidelity/drawn")
    assert not (tmp_path / "results").exists()
    assert "expected KIND/NAME, KIND one of" in said(tmp_path, capsys, "keep", str(tmp_path), "drawn")
    assert "has no report.json" in said(tmp_path, capsys, "keep", str(ROOT / "eval"), "fidelity/drawn")


def test_a_figure_is_drawn_from_its_result(tmp_path, capsys):
    seen = {"top1": figure(0.4, 0.3, 0.5), "probability": figure(0.3, 0.2, 0.4)}
    point = {"fraction": 0.5, "masked": 8} | seen
    rows = [
        {"arm": f"{name}@{layer}", "scorer": name, "layer": layer, "auc": seen["top1"], "curve": [point]}
        for name in ("tokenrank", "column_sum")
        for layer in (0, 1)
    ]
    more = {"order": "descending", "mask": "zero", "plain": point, "results": rows, "differences": []}
    folder = tmp_path / "results" / "masking"
    folder.mkdir(parents=True)
    (folder / "vit.json").write_text(json.dumps(fidelity(command="python -m eval.masking", **more)))
    out = ("--out", str(tmp_path / "drawn"))
    said(tmp_path, capsys, "draw", "masking/vit", *out, code=0)
    names = {path.name for path in (tmp_path / "drawn").iterdir()}
    assert names == {f"vit-{name}.{suffix}" for name in ("curves", "layers") for suffix in ("png", "svg")}
    (folder / "none.json").write_text(json.dumps(fidelity()))
    assert "masking/none has no figures" in said(tmp_path, capsys, "draw", "masking/none", *out)
    assert "absent.json" in said(tmp_path, capsys, "draw", "masking/absent", *out)


def test_without_a_checkout_there_is_nothing_to_fill(tmp_path, capsys):
    assert "run this in a checkout, or give --root" in said(tmp_path, capsys)


@pytest.mark.parametrize("name", sorted(planned(ROOT)))
def test_every_command_that_is_written_down_is_understood(name, tmp_path, monkeypatch):
    """Its program's own parser takes it; the files that it names are there."""
    for variable in FOLDERS:
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    for line in commands(ROOT, name):
        words = [os.path.expandvars(word) for word in shlex.split(line)]
        assert words[:2] == ["python", "-m"] and f"$OUT/{name}" in commands(ROOT, name)[-1]
        for word in words[3:]:
            path = Path(word.removeprefix("vit:"))
            if path.is_absolute() and path.suffix:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            elif path.is_absolute():
                path.mkdir(parents=True, exist_ok=True)
        if importlib.util.find_spec(words[2]).submodule_search_locations:  # pyright: ignore
            importlib.import_module(f"{words[2]}.options").parse(words[3:])


def test_compact_json_is_the_same():
    value = {"a": [figure(0.5, 0.25, 0.75)] * 3, "b": {}, "c": "é" * 150, "d": [1.5] * 60}
    text = compact(value)
    assert json.loads(text) == value
    assert '{"value": 0.5, "ci": [0.25, 0.75], "n": 20}' in text and max(map(len, text.splitlines())) < 170


def test_the_pages_of_this_project_agree_with_its_results(capsys):
    assert len(pages(ROOT)) >= 3
    said(ROOT, capsys, "--check", code=0)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_kept_result_is_shown_by_its_program(path):
    name = f"{path.parent.name}/{path.stem}"
    report = read_result(ROOT, name)
    assert report is not None and views_of(report).markdown(report)
    assert name in planned(ROOT)


def test_a_kept_result_must_say_where_it_came_from():
    assert {"command", "commit", "weights", "n", "results", "differences"} <= set(Result.model_fields)
