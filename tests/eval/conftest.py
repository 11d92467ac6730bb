"""What the experiments draw, as figures beside the files."""

import pytest

from eval import running


@pytest.fixture
def figures(monkeypatch):
    """Every figure that was published, by its file's name."""
    published, save = {}, running.save_figure

    def noted(figure, path):
        published[path.name] = figure
        save(figure, path)

    monkeypatch.setattr(running, "save_figure", noted)
    return published
