"""Prompts from files: prompt n is line n."""

import pytest

from eval.generate import prompts
from eval.generate.prompts import read_prompts


@pytest.fixture
def written(tmp_path):
    def write(text: str) -> str:
        (tmp_path / "p.txt").write_bytes(text.encode())
        return str(tmp_path / "p.txt")

    return write


def test_prompt_n_is_line_n_and_a_blank_line_the_empty_prompt(written, monkeypatch):
    said = []
    monkeypatch.setattr(prompts, "say", said.append)
    path = written("\ufeffa cat\r\n\r\na dog\u2028on grass\r\n")
    found = read_prompts(path, None, False)
    assert found.texts == ("a cat", "", "a dog\u2028on grass")
    assert said == [f"{path}: 1 of 3 prompts are empty, the first on line 2"]
    assert [job.prompt for job in found.jobs(range(2, 5), 0)] == ["a dog\u2028on grass", "a cat", ""]


def test_classes_after_a_tab(written):
    found = read_prompts(written("a cat\tcat\n\tdog\n"), None, False)
    assert (found.texts, found.labels) == (("a cat", ""), ("cat", "dog"))
    with pytest.raises(ValueError, match="on some lines only, not on line 2"):
        read_prompts(written("a cat\tcat\n\na dog\tdog\n"), None, False)


@pytest.mark.parametrize(("text", "words"), [("", "has no prompts"), ("\n \n", "use --prompts empty")])
def test_a_file_without_prompts(written, text, words):
    with pytest.raises(ValueError, match=words):
        read_prompts(written(text), None, False)
