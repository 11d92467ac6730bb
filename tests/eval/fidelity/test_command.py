"""The programs: what they print and keep, and one line for each mistake."""

import json
from types import SimpleNamespace

import pytest
from PIL import Image

from eval.fidelity import cache, plan
from eval.fidelity.command import main
from eval.fidelity.measure import OF_THIS_N
from eval.fidelity.options import parse
from eval.fidelity.reference import command as reference
from eval.fidelity.statistics import Gaussian
from tests.eval.fidelity.conftest import loaded, noise
from tests.eval.generate.test_generate import largest_file
from tokenrank_guidance.program import run


@pytest.fixture
def real(tmp_path):
    folder = tmp_path / "real"
    folder.mkdir()
    for i in range(30):
        noise(500 + i, side=24).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture
def measured(classifier, tmp_path, capsys):
    """`measured(*arguments, code=0)`: the report, or the last line of stderr."""

    def run_it(*arguments, code=0, program=main):
        options = ["--extractor", f"vit:{classifier}", "--resamples", 20, "--out", tmp_path / "out"]
        given = [*options, *arguments] if program is main else arguments
        capsys.readouterr()
        found = run(program, [str(argument) for argument in given])
        captured = capsys.readouterr()
        assert found == code, captured.err
        assert "Traceback" not in captured.err
        return json.loads(captured.out) if code == 0 else captured.err.strip().splitlines()[-1]

    return run_it


def test_a_report_says_what_it_is(measured, arm, real, tmp_path):
    arm("none"), arm("tokenrank", shift=5)
    report = measured(tmp_path / "arms", "--reference", real)
    names = ["frechet_vit", "isc_vit", "kid_vit", "precision_vit", "recall_vit", "accuracy"]
    assert [list(row["metrics"]) for row in report["results"]] == [names, names]
    assert [(row["arm"], row["n"]) for row in report["results"]] == [("none", 24), ("tokenrank", 24)]
    assert all(len(one["ci"]) == 2 for one in report["results"][0]["metrics"].values())
    (pair,) = report["differences"]
    assert (pair["a"], pair["b"]) == ("none", "tokenrank") and 0 < pair["metrics"]["accuracy"]["p"] <= 1
    assert "stand in for FID" in report["stand_in"] and "fid" not in names
    assert report["weights"] == {"none": "beef", "tokenrank": "beef"}
    assert report["results"][0]["drawn"] == {
        "command": "python -m eval.generate", "commit": None, "weights": "beef"
    }  # fmt: skip
    text = (tmp_path / "out" / "table.md").read_text()
    assert "none − tokenrank" in text and "stand in for FID" in text
    assert loaded(tmp_path / "out" / "report.json") == report


def test_both_networks_are_on_the_device_that_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(plan, "usable_device", lambda name: f"{name}:1")
    monkeypatch.setattr(plan, "open_extractor", lambda *given: asked.append(given[2]))
    opened = SimpleNamespace(classifier=None)
    monkeypatch.setattr(plan, "vit_extractor", lambda *given: asked.append(given[1]) or opened)
    options = ["a", "--out", "o", "--extractor", "vit:x", "--classifier", "y", "--measure-on", "cuda"]
    with pytest.raises(ValueError, match="there is nothing to measure"):
        plan.plan(parse(options), 1, [[None]], None)
    assert asked == ["cuda:1", "cuda:1"]


def test_features_are_computed_once_and_never_stale(measured, arm, monkeypatch, tmp_path):
    folder = arm()
    first = measured(folder)
    monkeypatch.setattr("eval.fidelity.extractor.Extractor.__call__", None)
    assert measured(folder)["results"] == first["results"]
    monkeypatch.undo()
    noise(77).save(folder / "000" / "000003.png")
    assert measured(folder)["results"] != first["results"]
    for path in (tmp_path / "out" / "features").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    said = []
    monkeypatch.setattr(cache, "say", said.append)
    measured(folder)
    assert "damaged" in said[0]


def test_arms_of_different_size_are_measured_alike(measured, arm, tmp_path):
    arm("none", 24), arm("sag", 20)
    report = measured(tmp_path / "arms")
    assert [row["n"] for row in report["results"]] == [20, 20]
    assert "the first 20 images" in report["notes"][0]


def test_statistics_stand_for_the_images(measured, arm, real, classifier, tmp_path):
    out = tmp_path / "stats.safetensors"
    arguments = ("--data", real, "--classifier", classifier, "--resolution", 16, "--out", out)
    options = ("--cache", tmp_path / "c")
    about = measured(*arguments, *options, program=reference.main)["about"]
    assert (about["n"], about["side"]) == (30, 16) and out.stat().st_size < 4000
    folder = arm()
    from_images = measured(folder, "--reference", real, "--metrics", "fid")["results"][0]["metrics"]
    report = measured(folder, "--reference", out)
    assert set(report["results"][0]["metrics"]) == {"frechet_vit", "isc_vit", "accuracy"}
    value = report["results"][0]["metrics"]["frechet_vit"]["value"]
    assert value == pytest.approx(from_images["frechet_vit"]["value"], rel=1e-4)
    assert "kid needs the reference's images" in measured(
        folder, "--reference", out, "--metrics", "kid", code=2
    )
    other = Gaussian.load(out)
    Gaussian(other.mean, other.covariance, {**other.about, "extractor": "vit-x"}).save(out)
    assert "extractor vit-x" in measured(folder, "--reference", out, code=2)
    Gaussian(other.mean, other.covariance, {**other.about, "side": 64}).save(out)
    assert "64 pixels; expected 16" in measured(folder, "--reference", out, code=2)


def test_each_metric_says_how_many_images_it_takes(measured, arm, real):
    few = arm(n=3)
    report = measured(few, "--reference", real)
    assert set(report["results"][0]["metrics"]) == {"frechet_vit", "kid_vit", "accuracy"}
    assert report["notes"] == [
        "isc is left out: it needs at least 20 images of each arm, got 3",
        "prc is left out: it needs at least 4 images of each arm, got 3",
        OF_THIS_N,
    ]
    options = ("--reference", real, "--metrics", "prc")
    assert "metric prc needs at least 4 images" in measured(few, *options, code=2)
    mistake = measured(arm(n=12), "--metrics", "isc", code=2)
    assert "metric isc needs at least 20 images of each arm, got 12" in mistake
    for path in sorted(real.iterdir())[3:]:
        path.unlink()
    mistake = measured(arm(n=12), "--reference", real, code=2)
    assert "metric prc needs a reference of at least 4 images, got 3" in mistake


def test_one_folder_twice_and_folders_of_one_name(measured, real, tmp_path):
    assert f"{real} is given more than once" in measured(real, real, code=2)
    for name in ("a/x/real", "b/x/real"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(20):
            noise(i).save(tmp_path / name / f"{i}.png")
    report = measured(tmp_path / "a" / "x" / "real", tmp_path / "b" / "x" / "real", "--metrics", "isc")
    assert [row["arm"] for row in report["results"]] == ["a/x/real", "b/x/real"]


@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_what_cannot_be_written_is_said_before_features_are_computed(
    measured, arm, tmp_path, option, monkeypatch
):
    monkeypatch.setattr("eval.fidelity.extractor.Extractor.__call__", None)
    (tmp_path / "file").write_text("x")
    assert "cannot write" in measured(arm(), option, tmp_path / "file", code=2)


def test_a_full_disk_while_features_are_kept_is_one_line(measured, arm, tmp_path):
    folder = arm()
    with largest_file(1500):
        mistake = measured(folder, "--metrics", "accuracy", code=2)
    assert "cannot write" in mistake and ".safetensors" in mistake and "File too large" in mistake
    measured(folder)


def test_extrapolation_is_reported(measured, arm, real):
    report = measured(arm(n=100), "--reference", real, "--metrics", "fid", "--extrapolate")
    assert list(report["results"][0]["metrics"]) == ["frechet_vit", "frechet_vit_infinity"]


def test_an_unreadable_image_is_named(measured, arm):
    folder = arm()
    (folder / "000" / "000007.png").write_bytes(b"nothing")
    assert "000007.png cannot be read" in measured(folder, code=2)


def test_an_unreadable_image_of_a_folder_or_of_the_reference_is_named(measured, arm, real):
    (real / "07.png").write_bytes(b"nothing")
    assert "07.png cannot be read (it is no image of a known format)" in measured(real, code=2)
    mistake = measured(arm(), "--reference", real, code=2)
    assert "the reference real: image 7 (" in mistake and "07.png) cannot be read: it is no image" in mistake
    noise(7, side=24).save(real / "07.png")
    measured(arm(), "--reference", real)


def test_a_changed_reference_is_not_taken_from_the_cache(measured, arm, real, monkeypatch):
    def distance():
        report = measured(arm(), "--reference", real, "--metrics", "fid")
        return report["results"][0]["metrics"]["frechet_vit"]["value"]

    first = distance()
    kept = (real / "07.png").read_bytes()
    noise(7, 100, side=24).save(real / "07.png")
    assert distance() != first
    (real / "07.png").write_bytes(kept)
    monkeypatch.setattr("eval.fidelity.extractor.Extractor.__call__", None)
    assert distance() == first


def test_a_disk_that_is_full_is_one_line(measured, arm, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    folder = arm()
    with monkeypatch.context() as patched:
        patched.setattr("tokenrank_guidance.files.writing.os.replace", full)
        mistake = measured(folder, code=2)
    assert "cannot write" in mistake and "No space left on device" in mistake
    measured(folder)


def test_an_unfinished_arm_is_refused(measured, arm, tmp_path):
    folder = arm()
    (folder / "000" / "000007.png").unlink()
    assert "lacks 1 images, as 000007.png" in measured(folder, code=2)
    (folder / "manifest.json").unlink()
    (folder / "batches-0.jsonl").write_text("")
    assert "not complete" in measured(folder, code=2)


def test_images_of_several_sizes_are_refused(measured, tmp_path):
    for i in range(20):
        noise(i, side=16 + (i > 0)).save(tmp_path / f"{i:02d}.png")
    assert "image 1 is 17×17, the first 16×16" in measured(tmp_path, "--metrics", "isc", code=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--extractor", "inception"), "--inception FILE"),
        (("--extractor", "clip"), "expected inception"),
        (("--extractor", "vit:nowhere"), "no image classifier"),
        (("--metrics", "fid"), "needs --reference"),
        (("--metrics", "fod"), "fod"),
        (("--reference", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--reference", "shipped"), "shipped"),
        (("--n", "25"), "has 24 images"),
        (("--resolution", "small"), "--resolution"),
        (("--reference", "shipped", "--resolution", "1000000"), "1000000×1000000 need at least"),
        (("--measure-on", "toaster"), "toaster"),
    ],
)
def test_mistakes_are_one_line(measured, arm, options, words):
    assert words in measured(arm(), *options, code=2)


def test_a_folder_without_images_is_one_line(measured, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no image" in measured(tmp_path / "empty", code=2)
    assert "no folder" in measured(tmp_path / "missing", code=2)


def test_inception_with_other_weights_is_refused(measured, arm, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"pickle")
    options = ("--extractor", "inception", "--inception", tmp_path / "weights.pth")
    assert "is not torch-fidelity's Inception" in measured(arm(), *options, code=2)


def test_real_images_are_cropped_and_resampled():
    from eval.fidelity.images import square

    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (10, 0, 30, 20))
    assert square(image, 10).getcolors() == [(100, (0, 0, 255))]
    assert square(image.crop((0, 0, 20, 20)), 20).size == (20, 20)
