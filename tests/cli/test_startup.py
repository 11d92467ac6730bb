"""Help and mistakes are there at once: nothing heavy is imported before the arguments are right."""

import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import tokenrank_guidance
from tokenrank_guidance.cli import main
from tokenrank_guidance.program import program

# Each program by a call that takes its arguments, and a mistake that is only one together with other options.
PROGRAMS = {
    "tokenrank": ("tokenrank_guidance.cli:main", ["sample", "--guidance", "none", "--scale", "1"]),
    "tokenrank sample": ("tokenrank_guidance.cli:main", ["sample", "--damping", "1"]),
    "tokenrank segment": ("tokenrank_guidance.cli:main", ["segment", "x.png", "--vote", "mean"]),
    "tokenrank explain": ("tokenrank_guidance.cli:main", ["explain", "--concepts", "x"]),
    "tokenrank app": ("tokenrank_guidance.cli:main", ["app", "--export", "shown", "--port", "1"]),
    "eval.masking": ("eval.masking", ["--model", "m", "--data", "d", "--out", "o", "--scorers", "rnk"]),
    "eval.segmentation": (
        "eval.segmentation",
        ["--model", "timm/v", "--data", "d", "--out", "o", "--add-noise"],
    ),
    "eval.zero_shot": (
        "eval.zero_shot",
        ["--model", "p", "--data", "d", "--out", "o", "--methods", "row", "--bounces", "2"],
    ),
    "eval.zero_shot.heads": (
        "eval.zero_shot.heads",
        ["--model", "timm/v", "--data", "d", "--out", "o", "--draws", "2"],
    ),
    "tokenrank eval": ("tokenrank_guidance.cli:main", ["eval", "maskin"]),
    "tokenrank eval masking": ("tokenrank_guidance.cli:main", ["eval", "masking", "--model", "m"]),
    "eval.generate": ("eval.generate", ["--out", "o", "--n", "1", "--arms", "tokenrank:damping=2"]),
    "eval.guidance": ("eval.guidance", ["--model", "m", "--out", "o", "--arms", "sag:damping=2"]),
    "eval.fidelity": ("eval.fidelity", ["o", "--out", "p"]),
    "eval.fidelity.reference": (
        "eval.fidelity.reference",
        ["--data", "d", "--classifier", "c", "--out", "o"],
    ),
    "eval.sweep": ("eval.sweep", ["--out", "o", "--arms", "none"]),
    "eval.tables": ("eval.tables", ["keep", ".", "masking"]),
    "tiny.train": ("tokenrank_guidance.tiny.train", ["tiny-sd", "--data", "d", "--rate", "nan"]),
    "tiny.evaluate": (
        "tokenrank_guidance.tiny.evaluate",
        ["m", "--classifier", "c", "--data", "d"],
    ),
}
HEAVY = (
    *(
        "PIL",
        "accelerate",
        "datasets",
        "diffusers",
        "gradio",
        "h5py",
        "huggingface_hub",
        "jaxtyping",
        "matplotlib",
        "numpy",
    ),
    *("pyarrow", "scipy", "sklearn", "timm", "torch", "torch_fidelity", "torchvision", "transformers"),
)
CHECK = """
import contextlib, io, json, sys, time
from importlib import import_module
from tokenrank_guidance.program import program

programs, heavy = json.loads(sys.argv[1])
found = {}
for name, (where, mistake) in programs.items():
    module, _, function = where.partition(":")
    def run(arguments):
        if function:
            return getattr(import_module(module), function)(arguments)
        return program(module, arguments)
    subcommand = name.split()[1:]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run([*subcommand, "--help"])
        except SystemExit as end:
            assert end.code == 0
        help_text, said = out.getvalue(), err.getvalue()
        code = run(mistake)
    found[name] = [help_text[:6], said, out.getvalue() == help_text, code, err.getvalue(),
                   [module for module in heavy if module in sys.modules]]
print(json.dumps([found, time.process_time()]))
"""


@pytest.fixture(scope="module")
def started():
    """What every program did, one after the other in one fresh interpreter."""
    programs = json.dumps([PROGRAMS, HEAVY])
    done = subprocess.run([sys.executable, "-c", CHECK, programs], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_is_on_stdout_and_a_mistake_one_line_with_nothing_heavy_imported(started, name):
    usage, said_with_help, nothing_more, code, said, heavy = started[0][name]
    assert (usage, said_with_help, nothing_more) == ("usage:", "", True)
    assert code == 2
    assert said.startswith("error: ") and said.count("\n") == 1
    assert heavy == []


def test_all_of_that_takes_the_time_of_an_interpreter(started):
    assert started[1] < 3  # seconds, of 34 commands, on a busy machine too; torch alone takes as long


@pytest.mark.parametrize("argv", [["--version"], ["-c", "tokenrank_guidance"]])
def test_version(argv, capsys):
    if argv[0] == "--version":
        with pytest.raises(SystemExit, match="0"):
            main(argv)
        assert capsys.readouterr().out == f"tokenrank-guidance {version('tokenrank-guidance')}\n"
    assert tokenrank_guidance.__version__ == version("tokenrank-guidance")


@pytest.mark.parametrize(
    "package", ["masking", "segmentation", "zero_shot", "zero_shot.heads", "generate", "guidance", "sweep"]
)
def test_version_of_a_program(package, capsys):
    with pytest.raises(SystemExit, match="0"):
        program(f"eval.{package}", ["--version"])
    assert capsys.readouterr().out.startswith("tokenrank-guidance ")


def test_the_package_is_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "tokenrank_guidance", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"tokenrank-guidance {version('tokenrank-guidance')}\n"


PACKAGES = (
    *("tokenrank_guidance", "tokenrank_guidance.tiny", "sag", "diffseg", "diffseg.zero_shot", "eval.data"),
    *("eval.fidelity", "eval.generate", "eval.masking", "eval.segmentation", "eval.sweep", "eval.zero_shot"),
    "eval.zero_shot.heads",
)


@pytest.mark.parametrize("name", PACKAGES)
def test_lazy_packages_have_every_name_they_export(name):
    package = import_module(name)
    assert set(package.__all__) <= set(dir(package))
    for export in package.__all__:
        value = getattr(package, export)
        assert getattr(value, "__name__", export) in (export, "Scorer", "Callable")
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_what_a_fresh_process_finds_in_the_packages():
    """Guidance and segmentation bring no pipelines, the guider is there, and `capture` is the function."""
    code = (
        "import sys\nimport tokenrank_guidance.capture\nfrom tokenrank_guidance import capture\n"
        "import sag\nfrom diffseg import DiffSeg\nfrom sag import SelfAttentionGuidance\n"
        "assert callable(capture) and callable(tokenrank_guidance.capture)\n"
        "assert not {'diffusers', 'transformers', 'torch._dynamo'} & sys.modules.keys()\n"
        "assert hasattr(sag, 'TokenRankGuider') and 'diffusers' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class _Interrupted(ModuleType):
    def __getattr__(self, name: str):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("module", "run", "arguments"),
    [
        ("tokenrank_guidance.cli.sample", main, ["sample"]),
        ("eval.generate.command", lambda argv: program("eval.generate", argv), ["--out", "o", "--n", "1"]),
        (
            "tokenrank_guidance.tiny.evaluate.command",
            lambda argv: program("tokenrank_guidance.tiny.evaluate", argv),
            ["tiny-sd", "--classifier", ".", "--data", "."],
        ),
        (
            "tokenrank_guidance.tiny.train.command",
            lambda argv: program("tokenrank_guidance.tiny.train", argv),
            ["tiny-sd", "--data", "x"],
        ),
    ],
)
def test_an_interrupt_while_libraries_are_imported_is_one_line(monkeypatch, capsys, module, run, arguments):
    monkeypatch.setitem(sys.modules, module, _Interrupted(module))
    assert run(arguments) == 130
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("interrupted: ") and err.count("\n") == 1


def test_programs_in_the_test_are_all_there_are():
    root = Path(tokenrank_guidance.__file__).parents[1]
    mains = {path.parent.relative_to(root).as_posix() for path in root.glob("*/**/__main__.py")}
    assert {
        name.replace("eval/", "eval.").replace("/", ".") for name in mains if name.startswith("eval")
    } == {name for name in PROGRAMS if name.startswith("eval.")}
