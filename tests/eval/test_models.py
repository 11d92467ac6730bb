"""What a --model is, of what is seen of it."""

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from eval.models import is_pipeline, is_vision_transformer


@pytest.mark.parametrize("file", ["model_index.json", "training.json"])
def test_folders(tmp_path, file):
    assert is_vision_transformer(str(tmp_path)) and not is_pipeline(str(tmp_path))
    (tmp_path / file).write_text("{}")
    assert not is_vision_transformer(str(tmp_path)) and is_pipeline(str(tmp_path))


def test_names_that_tell(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)  # not asked
    assert is_vision_transformer("timm/vit") and not is_pipeline("timm/vit")
    assert is_pipeline("tiny-flux") and is_pipeline("tiny-flx")  # whose error names those that there are
    assert not is_vision_transformer("owner/name")


def test_the_hub_is_asked_for_a_pipelines_index(monkeypatch):
    def download(name, file, local_files_only):
        assert file == "model_index.json"
        if name != "owner/pipeline":
            raise LocalEntryNotFoundError("not there")
        return file

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert is_pipeline("owner/pipeline") and not is_pipeline("owner/vit")
