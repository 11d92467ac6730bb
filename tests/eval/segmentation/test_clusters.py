"""One matching for a data set whose segments are numbered differently in each picture."""

import numpy as np

from eval.metrics.confusion import pixel_accuracy
from eval.segmentation.clusters import matched_per_data_set
from eval.segmentation.store import Described
from eval.segmentation.tally import ClassTally, counts

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def described(overlap, vectors):
    return Described(np.array(overlap), np.array(vectors, dtype=np.float32))


def test_alike_segments_get_one_class():
    pictures = [
        described([[5, 0], [0, 3]], [EAST, NORTH]),
        described([[0, 4], [1, 0], [6, 0]], [NORTH, EAST, EAST]),
    ]
    matched = matched_per_data_set(pictures, seed=0)
    assert matched[0] == [ClassTally(0, 5, 5, 5, 1.0), ClassTally(1, 3, 3, 3, 1.0)]
    assert matched[1] == [ClassTally(0, 7, 7, 7, 1.0), ClassTally(1, 4, 4, 4, 1.0)]


def test_a_picture_of_its_own_kind_is_wrong():
    """Matched by itself the second picture would be right; its segments look like the other class."""
    pictures = [described([[50, 0], [0, 30]], [EAST, NORTH]), described([[0, 4], [1, 0]], [EAST, NORTH])]
    matched = matched_per_data_set(pictures, seed=0)
    assert pixel_accuracy(counts(matched, 2)).tolist() == [1.0, 0.0]


def test_fewer_kinds_than_classes():
    matched = matched_per_data_set([described([[5, 1]], [EAST])], seed=0)
    assert matched == [[ClassTally(0, 5, 6, 5, 5 / 6), ClassTally(1, 1, 0, 0, 1 / 6)]]
