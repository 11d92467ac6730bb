"""Names to classes."""

import pytest
from timm.data.imagenet_info import ImageNetInfo

from eval.labels import match_labels

PETS = {0: "tabby, tabby cat", 1: "Golden_Retriever", 2: "crane", 3: "crane"}


def imagenet() -> dict[int, str]:
    info = ImageNetInfo("imagenet-1k")
    return {i: info.index_to_description(i) for i in range(1000)}


def test_any_synonym_in_any_spelling():
    names = ("tabby", "TABBY cat", "tabby, tabby cat", "golden retriever")
    assert match_labels(names, PETS) == {names[0]: 0, names[1]: 0, names[2]: 0, names[3]: 1}


def test_every_mistake_is_listed():
    with pytest.raises(ValueError, match="3 of 4 labels") as caught:
        match_labels(["tabby", "tab", "golden retriver", "crane"], PETS)
    text = str(caught.value)
    assert "'golden retriver' (close: 'golden retriever')" in text
    assert "'crane' is ambiguous: 2 'crane', 3 'crane'" in text
    assert "'tab'" in text


def test_wordnet_ids_of_imagenet():
    classes = imagenet()
    assert match_labels(["n01440764", "n02012849"], classes) == {"n01440764": 0, "n02012849": 134}
    assert match_labels(["crane"], classes, {"crane": "n03126707"}) == {"crane": 517}
    assert match_labels(["a fish"], {i: f"LABEL_{i}" for i in range(1000)}, {"a fish": "n01440764"}) == {
        "a fish": 0
    }


def test_wordnet_ids_mean_nothing_in_another_order():
    shuffled = {999 - i: name for i, name in imagenet().items()}
    assert match_labels(["tench"], shuffled, {"tench": "n01440764"}) == {"tench": 999}
    with pytest.raises(ValueError, match="n01440764"):
        match_labels(["n01440764"], shuffled)


def test_classes_named_by_wordnet_id():
    assert match_labels(["fish"], {0: "n01443537", 1: "n01440764"}, {"fish": "n01440764"}) == {"fish": 1}


@pytest.mark.parametrize("ids", [True, False])
def test_imagenette(ids):
    names = {"tench": "n01440764", "church": "n03028079", "golf ball": "n03445777", "chain saw": "n03000684"}
    expected = {"tench": 0, "church": 497, "golf ball": 574, "chain saw": 491}
    assert match_labels(list(names), imagenet(), names if ids else None) == expected
