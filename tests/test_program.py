"""Exit codes, one line per mistake, and stdout kept for results."""

import io
import json
import sys
import warnings

import numpy as np
import pytest
import torch

from tokenrank_guidance.errors import TokenRankError
from tokenrank_guidance.messages import progress
from tokenrank_guidance.options import positive
from tokenrank_guidance.program import Parser, ended, escape_on_stdout, is_out_of_memory, run
from tokenrank_guidance.report import emit


def raising(error):
    def main(argv):
        raise error

    return main


def test_results_on_stdout_and_the_rest_on_stderr(tmp_path, capsys):
    def main(argv):
        print("chatter")
        warnings.warn("odd", UserWarning, stacklevel=1)
        emit({"argv": argv}, tmp_path)

    assert run(main, ["--x"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"argv": ["--x"]}
    assert "chatter" in captured.err
    assert "warning: odd" in captured.err


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), TokenRankError("a b"), OSError("a b"), ImportError("a b")]
)
def test_mistakes_are_one_line(error, capsys):
    assert run(raising(error), []) == 2
    assert tuple(capsys.readouterr()) == ("", "error: a b\n")


def test_an_interrupt(capsys):
    assert run(raising(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == "interrupted: the same command resumes where this one stopped\n"


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()), [])


def test_a_wrong_argument(capsys):
    parser = Parser(prog="x")
    parser.add_argument("--n", type=positive)
    assert run(lambda argv: parser.parse_args(argv), ["--n", "0"]) == 2
    assert capsys.readouterr().err == (
        "error: argument --n: expected a whole number ≥ 1, got '0' (see x --help)\n"
    )


def test_progress_counts_what_was_done_before(capsys):
    assert list(progress(["a", "b"], "work", done=3)) == ["a", "b"]
    assert "5/5" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt()])
def test_no_bar_is_left_below_the_last_line(error, capsys):
    def failing(items):
        for item in items:
            if item == "b":
                raise error
            yield item

    run(lambda argv: list(failing(progress(["a", "b", "c"], "work"))), [])
    bar, line = capsys.readouterr().err.rsplit("\r", 1)[-1].split("\n", 1)
    assert "1/3" in bar
    assert line.startswith(("error: odd", "interrupted")) and line.count("\n") == 1


def test_a_letter_that_stdout_lacks_becomes_an_escape_that_json_knows(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    escape_on_stdout()
    print(json.dumps({"prompt": "é √ 😀 \udcff"}, ensure_ascii=False), flush=True)
    assert json.loads(raw.getvalue()) == {"prompt": "é √ 😀 \udcff"}


ALLOCATIONS = {
    "torch, of the CPU": "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
    "torch, of a GPU": "CUDA out of memory. Tried to allocate 2.00 GiB",
    "torch, uncountable": "Storage size calculation overflowed with sizes=[1, 99999999999999999]",
}


@pytest.mark.parametrize("text", ALLOCATIONS.values(), ids=ALLOCATIONS)
def test_an_allocation_that_fails_is_one_line(text, capsys):
    def work():
        raise RuntimeError(f"{text}\nException raised from nowhere")

    assert ended(work, "") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: not enough memory: ") and said.count("\n") == 1


def test_real_failures_to_allocate_are_known_as_such():
    for allocate in (lambda: torch.empty(2**60, dtype=torch.int8), lambda: np.empty(2**60, np.int8)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, 2**62)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
