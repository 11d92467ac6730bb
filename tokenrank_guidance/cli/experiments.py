"""`tokenrank eval NAME …`: the experiments, by the parsers and the code of `python -m eval.NAME`.

There is no list of them: a package of `eval` with a `__main__` is one, and its `options` have a SUMMARY.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from tokenrank_guidance.experiments import NAME, folder, make_importable
from tokenrank_guidance.program import LOST, ended, parser_of, program

SUMMARY = "Run an experiment: masking, fidelity, segmentation and others."
CALLED = ("tokenrank", NAME)


def main(argv: Sequence[str]) -> int:
    """Run the experiment that `argv` begins with; exit codes as of `program`."""
    found: list[str] = []
    code = ended(lambda: found.append(_chosen(argv)), LOST)
    if not found:
        return code
    name, *arguments = argv
    return program(found[0], arguments, called=(*CALLED, name))


def experiments() -> dict[str, str]:
    """Each experiment's package, by what it is called here: eval.zero_shot.heads is zero-shot-heads.

    It may be spelt as the package, too: zero_shot.heads.
    """
    root = folder()
    parts = sorted(path.parent.relative_to(root).parts for path in root.glob("*/**/__main__.py"))
    return {"-".join(one).replace("_", "-"): ".".join((NAME, *one)) for one in parts}


def _chosen(argv: Sequence[str]) -> str:
    """The package of the experiment that is asked for; ValueError where there is none of that name."""
    make_importable()
    packages = experiments()
    if argv and (asked := argv[0].replace("_", "-").replace(".", "-")) in packages:
        return packages[asked]
    parser = parser_of(" ".join(CALLED), SUMMARY)
    names = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    for name, package in packages.items():
        names.add_parser(name, help=import_module(f"{package}.options").SUMMARY)
    return packages[parser.parse_args(argv).experiment]
