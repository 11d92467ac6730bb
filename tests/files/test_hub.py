"""Which of a repository's files is there, asked of a folder, of the Hub, or of its cache."""

import json

import httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from tokenrank_guidance.files.hub import first_of, is_timm
from tokenrank_guidance.files.pretrained import refusing

ANSWER = httpx.Response(404, request=httpx.Request("GET", "http://hub"))


@pytest.fixture
def hub(monkeypatch):
    """`hub(answers)` has these for (file, whether of the cache alone), and returns what it was asked."""
    asked = []

    def answering(answers):
        def download(name, file, local_files_only):
            asked.append((file, local_files_only))
            answer = answers[file, local_files_only]
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return asked

    return answering


def test_a_folder_is_asked_for_its_files(tmp_path):
    assert first_of(str(tmp_path), ["a", "b"]) is None
    (tmp_path / "b").write_text("")
    assert first_of(str(tmp_path), ["a", "b"]) == tmp_path / "b"


def test_what_the_hub_lacks_is_passed_over(hub):
    asked = hub({("a", False): RemoteEntryNotFoundError("none", response=ANSWER), ("b", False): "/cache/b"})
    assert str(first_of("owner/name", ["a", "b"])) == "/cache/b"
    assert asked == [("a", False), ("b", False)]


def test_an_unreachable_hub_is_waited_for_once(hub):
    asked = hub({("a", False): LocalEntryNotFoundError("offline"), ("b", True): "/cache/b"})
    assert str(first_of("owner/name", ["a", "b"])) == "/cache/b"
    assert asked == [("a", False), ("b", True)]


def test_a_name_that_is_not_there_is_asked_for_once(hub):
    asked = hub({("a", False): RepositoryNotFoundError("none", response=ANSWER)})
    assert first_of("owner/name", ["a", "b"]) is None and asked == [("a", False)]


def test_timms_are_known_by_name_or_configuration(hub, tmp_path):
    assert is_timm("timm/vit") and not is_timm(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
    assert is_timm(str(tmp_path))
    hub({("config.json", False): str(tmp_path / "config.json")})
    assert is_timm("owner/name")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="no configuration of a model: it holds a list"):
        is_timm(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "said"),
    [(RepositoryNotFoundError, "the Hub has nothing of that name"), (GatedRepoError, "agree to its terms")],
)
def test_why_a_name_cannot_be_had(kind, said):
    error = kind("404 Client Error. (Request ID: 1)", response=ANSWER)
    error.__cause__ = httpx.HTTPError("Client error '404 Not Found'")
    expected = f"^no model could be loaded from owner/name: .*{said}"
    with pytest.raises(ValueError, match=expected), refusing("owner/name"):
        raise error
