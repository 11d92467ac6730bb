"""No hook of this project is traced by Dynamo, which would compile it anew by whatever it looks at."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffseg
import sag
import tokenrank_guidance
from sag import SelfAttentionGuidance
from sag.hook import GuidanceHook
from tests.tiny_models import pipeline

FILES = [
    path
    for package in (tokenrank_guidance, sag, diffseg)
    for path in Path(package.__file__).parent.rglob("*.py")
    if "register_forward" in path.read_text()
]


def registered(tree: ast.Module) -> Iterator[str]:
    """What is put on modules, as it is written; a name as what it was given last."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
            names |= {ast.unparse(target): ast.unparse(node.value) for target in targets}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and "register_forward" in ast.unparse(node.func):
            written = ast.unparse(node.args[0])
            yield names.get(written, written)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hooks_run_outside_compiled_graphs(path):
    found = list(registered(ast.parse(path.read_text())))
    assert found
    plain = [hook for hook in found if "eager(" not in hook]
    assert plain == (["called"] if path.stem == "guidance" else [])


def test_the_hook_of_guidance_is_itself_on_the_denoiser():
    """Others look for it there; its call is what is not to be traced."""
    with SelfAttentionGuidance()(pipeline("sd")):
        assert vars(GuidanceHook)["__call__"]._torchdynamo_disable
