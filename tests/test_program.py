"""Exit codes, one line per mistake, and the arguments that programs share."""

import json
import warnings

import pytest

from tokenrank_guidance.errors import TokenRankError
from tokenrank_guidance.messages import progress
from tokenrank_guidance.options import positive
from tokenrank_guidance.program import Parser, run
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
