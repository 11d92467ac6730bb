import pytest

from tokenrank_guidance.program import program
from tokenrank_guidance.tiny.evaluate.command import Share


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny-dit"], "no embedded model is called 'tiny-dit'"),
        (["tiny-flux", "--n", "0"], "argument --n: expected a whole number ≥ 1, got '0'"),
        (["tiny-flux", "--data", "absent.parquet"], "absent.parquet does not exist"),
    ],
)
def test_a_mistake_is_named_and_ends_with_2(arguments, message, tmp_path, capsys):
    given = ["--classifier", str(tmp_path), "--data", str(tmp_path), *arguments]
    assert program("tokenrank_guidance.tiny.evaluate", given) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ") and said.count("\n") == 1


def test_wilson_interval():
    result = Share(335, 500).to_json()
    assert result["accuracy"] == 0.67
    assert result["ci"] == pytest.approx([0.6276, 0.7098], abs=1e-4)
