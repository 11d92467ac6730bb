import pytest
from datasets import Dataset, Image
from PIL import Image as Picture

from tokenrank_guidance.program import program
from tokenrank_guidance.tiny.evaluate.command import held_out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny-dit"], "no embedded model is called 'tiny-dit'"),
        (["tiny-flux", "--n", "0"], "argument --n: expected a whole number ≥ 1, got '0'"),
        (["tiny-flux", "--device", "abacus"], "device 'abacus' cannot be used: "),
        (["tiny-flux", "--data", "absent.parquet"], "absent.parquet does not exist"),
    ],
)
def test_a_mistake_is_named_and_ends_with_2(arguments, message, tmp_path, capsys):
    given = ["--classifier", str(tmp_path), "--data", str(tmp_path), *arguments]
    assert program("tokenrank_guidance.tiny.evaluate", given) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ") and said.count("\n") == 1


def test_data_without_wordnet_ids_are_one_line(tmp_path):
    rows = Dataset.from_dict({"image": [Picture.new("RGB", (8, 8))], "label": ["church"]})
    rows.cast_column("image", Image()).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet has no column 'wnid' of WordNet ids.*image, label"):
        next(held_out(tmp_path / "x.parquet", 8))
