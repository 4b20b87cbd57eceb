"""Groups of replicas partition the world as the released TPU code does it."""

import itertools

import pytest

from xlatrain.models.bn_groups import box_groups, group_size, replica_groups


@pytest.mark.parametrize(
    ("text", "replicas", "local_batch", "size"),
    [
        ("world", 8, 16, 8),
        ("local", 8, 16, 1),
        ("4", 8, 16, 4),
        ("auto", 8, 16, 8),
        ("auto", 1024, 32, 4),  # papers: 32 images a core, 128 images a norm
        ("auto", 1024, 64, 2),
        ("auto", 1024, 256, 1),
        ("auto_rmsprop", 8, 16, 1),
        ("auto_rmsprop", 32, 16, 8),
        ("auto_rmsprop", 128, 16, 16),
        ("auto_rmsprop", 1024, 16, 128),
    ],
)
def test_rules_of_the_reference(text, replicas, local_batch, size):
    assert group_size(text, replicas, local_batch) == size


@pytest.mark.parametrize(("text", "words"), [("3", "do not divide 8"), ("all", "neither a rule"), ("0", "neither")])
def test_a_group_that_does_not_divide_says_what_does(text, words):
    with pytest.raises(ValueError, match=words) as error:
        group_size(text, 8, 16)
    assert "1, 2, 4, 8" in str(error.value)


def test_small_groups_are_contiguous_and_one_group_is_none():
    assert replica_groups(8, 8) is None
    assert replica_groups(8, 4, torus_width=4) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert replica_groups(64, 32) == [list(range(32)), list(range(32, 64))]


def test_a_box_of_8_on_rows_of_4_is_walked_as_the_published_ring():
    assert box_groups(16, 8, 4)[0] == [0, 1, 2, 3, 7, 6, 5, 4]


@pytest.mark.parametrize(
    ("replicas", "size", "width"), [(1024, 32, 32), (1024, 64, 32), (1024, 128, 32), (256, 32, 16)]
)
def test_boxes_partition_the_torus_and_every_hop_is_between_neighbours(replicas, size, width):
    groups = replica_groups(replicas, size, width)
    assert sorted(m for g in groups for m in g) == list(range(replicas))
    assert {len(g) for g in groups} == {size}
    height = replicas // width
    for group in groups:
        ring = [*group, group[0]] if size <= 2 * width else group
        for a, b in itertools.pairwise(ring):
            dx = abs(a % width - b % width)
            dy = abs(a // width - b // width)
            assert min(dx, width - dx) + min(dy, height - dy) == 1


def test_boxes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="power of two"):
        box_groups(96, 24, 16)
    with pytest.raises(ValueError, match="do not cover"):
        box_groups(48, 32, 12)
