"""Policies draw what the reference's tables say, as often as they say, from the given generator alone."""

import collections
import pickle
import random as global_random

import numpy as np
import pytest
from PIL import Image
from timm.data.auto_augment import auto_augment_policy_v0
from torchvision.transforms import functional

from xlatrain.data.pixels import policy

DRAWS = 32_000
POLICIES = [policy.AutoAugment(), policy.RandAugment(3, 9.0), policy.ColorJitter(0.4, 0.4, 0.4)]


def generator(seed=0):
    return np.random.default_rng(seed)


def noise(height=9, width=7):
    return generator(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def distort(image, op, argument, seed=0):
    return policy.distort(image, [(op, argument)], generator(seed))


def within_chance(count, draws, probability):
    """Whether a binomial count is within five standard deviations."""
    return abs(count - draws * probability) < 5 * (draws * probability * (1 - probability)) ** 0.5


# Arguments at levels 0, 1, 5, 10, before the sign, worked out by hand from the reference's formulas.
ENHANCE = (0.1, 0.28, 1.0, 1.9)
ARGUMENTS = {
    "AutoContrast": (None,) * 4,
    "Equalize": (None,) * 4,
    "Invert": (None,) * 4,
    "Rotate": (0.0, 3.0, 15.0, 30.0),
    "Posterize": (0, 0, 2, 4),
    "Solarize": (0, 25, 128, 256),
    "SolarizeAdd": (0, 11, 55, 110),
    "Color": ENHANCE,
    "Contrast": ENHANCE,
    "Brightness": ENHANCE,
    "Sharpness": ENHANCE,
    "ShearX": (0.0, 0.03, 0.15, 0.3),
    "ShearY": (0.0, 0.03, 0.15, 0.3),
    "TranslateX": (0.0, 10.0, 50.0, 100.0),
    "TranslateY": (0.0, 10.0, 50.0, 100.0),
    "Cutout": (0, 4, 20, 40),
}
OF_AUTOAUGMENT = {
    "TranslateX": (0.0, 25.0, 125.0, 250.0),
    "TranslateY": (0.0, 25.0, 125.0, 250.0),
    "Cutout": (0, 10, 50, 100),
}


@pytest.mark.parametrize("op", ARGUMENTS)
def test_arguments_are_those_of_the_reference(op):
    for reach, expected in (
        (policy.RANDAUGMENT_REACH, ARGUMENTS[op]),
        (policy.AUTOAUGMENT_REACH, OF_AUTOAUGMENT.get(op, ARGUMENTS[op])),
    ):
        found = [policy.level_argument(op, level, reach) for level in (0, 1, 5, 10)]
        assert [type(a) for a in found] == [type(a) for a in expected]
        assert found == [a if a is None else pytest.approx(a) for a in expected]


def test_v0_is_the_reference_table():
    """timm's copy of it, but for the translation, there in parts of the image and here in pixels."""
    theirs = [
        [(op.name.replace("YRel", "Y"), op.prob, op.magnitude) for op in pair] for pair in auto_augment_policy_v0({})
    ]
    assert len(policy.POLICY_V0) == 25
    assert [list(pair) for pair in policy.POLICY_V0] == theirs


def test_randaugment_takes_each_of_the_sixteen_equally_often():
    always, draw = policy.RandAugment(1, 10.0, probability=1.0), generator()
    counts = collections.Counter(op for _ in range(DRAWS) for op, _ in always.choose(draw))
    assert counts.keys() == ARGUMENTS.keys()
    assert all(within_chance(count, DRAWS, 1 / 16) for count in counts.values())


def test_randaugment_applies_half_of_what_it_takes_each_layer_on_its_own():
    draw = generator()
    counts = collections.Counter(len(policy.RandAugment().choose(draw)) for _ in range(DRAWS))
    assert all(within_chance(counts[n], DRAWS, p) for n, p in enumerate((0.25, 0.5, 0.25)))


def test_randaugment_arguments_follow_the_magnitude():
    draw = generator()
    for level, place in ((1, 1), (5, 2), (10, 3)):
        for op, argument in policy.RandAugment(400, level, 1.0).choose(draw):
            expected = ARGUMENTS[op][place]
            assert expected is None or abs(argument) == pytest.approx(expected)


def test_subpolicies_are_uniform_and_each_operation_has_its_own_probability():
    """The expected count of each (operation, argument) sums p / 25 over the table; both must be right to meet it."""
    draw, signless = generator(), collections.Counter()
    for _ in range(DRAWS):
        signless.update((op, argument and abs(argument)) for op, argument in policy.AutoAugment().choose(draw))
    expected, variance = collections.Counter(), collections.Counter()
    for pair in policy.POLICY_V0:
        for op, probability, level in pair:
            key = op, policy.level_argument(op, level, policy.AUTOAUGMENT_REACH)
            expected[key] += DRAWS * probability / 25
            variance[key] += 2 * DRAWS * probability / 25  # an upper bound: operations of a pair may coincide
    assert signless.keys() == {key for key, count in expected.items() if count}
    assert all(abs(signless[key] - expected[key]) < 5 * variance[key] ** 0.5 for key in signless)


def test_each_subpolicy_is_drawn_equally_often(monkeypatch):
    monkeypatch.setattr(policy, "POLICY_V0", tuple((("Solarize", 1.0, n / 2.56 + 0.01),) for n in range(25)))
    draw = generator()
    counts = collections.Counter(policy.AutoAugment().choose(draw)[0] for _ in range(DRAWS))
    assert len(counts) == 25
    assert all(within_chance(count, DRAWS, 1 / 25) for count in counts.values())


@pytest.mark.parametrize("op", ARGUMENTS)
def test_movements_are_negated_half_of_the_time_and_nothing_else_is(op):
    draw = generator()
    arguments = [policy.draw_step(op, 7, policy.RANDAUGMENT_REACH, draw)[1] for _ in range(4000)]
    negative = sum(argument is not None and argument < 0 for argument in arguments)
    moves = op in ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
    assert within_chance(negative, 4000, 0.5) if moves else negative == 0


def test_values_change_as_computed_by_hand():
    image = noise()
    wide = image.astype(int)
    np.testing.assert_array_equal(distort(image, "Invert", None), 255 - wide)
    for threshold in (0, 25, 128, 256):
        expected = np.where(wide < threshold, wide, 255 - wide)
        np.testing.assert_array_equal(distort(image, "Solarize", threshold), expected)
    for added in (0, 11, 110, 200):
        expected = np.where(wide < 128, np.minimum(wide + added, 255), wide)
        np.testing.assert_array_equal(distort(image, "SolarizeAdd", added), expected)
    for bits, shift in ((4, 4), (2, 6), (1, 7), (8, 0)):
        np.testing.assert_array_equal(distort(image, "Posterize", bits), wide >> shift << shift)
    np.testing.assert_array_equal(distort(image, "Brightness", 0.5), wide // 2)
    low, high = wide.min((0, 1)), wide.max((0, 1))
    stretched = distort(image, "AutoContrast", None)
    assert np.abs(stretched - (wide - low) * 255.0 / (high - low)).max() <= 1.0


def test_posterize_to_no_bits_keeps_one():
    """TensorFlow clamps the shift of 8 to 7; PIL refuses 0 bits."""
    np.testing.assert_array_equal(distort(noise(), "Posterize", 0), noise() & 128)


def test_equalize_spreads_a_narrow_histogram_evenly():
    image = np.repeat(np.arange(100, 104, dtype=np.uint8), 255).reshape(30, 34, 1).repeat(3, 2)
    # step = 765 // 255 = 3 pixels a grey level: each value to (pixels below it + 1) // 3
    expected = np.repeat([0, 85, 170, 255], 255).reshape(30, 34, 1).repeat(3, 2)
    np.testing.assert_array_equal(distort(image, "Equalize", None), expected)


def test_sharpness_smooths_the_inside_and_leaves_the_border():
    image = np.zeros((5, 5, 3), dtype=np.uint8)
    image[2, 2] = image[0, 0] = 130
    smooth = distort(image, "Sharpness", 0.0)
    expected = image.copy()
    expected[1:4, 1:4] = 10  # 130 / 13, and 5 / 13 of it where it was
    expected[2, 2] = 50
    expected[1, 1] = 20
    np.testing.assert_array_equal(smooth, expected)


@pytest.mark.parametrize("pixels", [0.0, 2.0, -3.0, 225.0, -225.0])
def test_translation_moves_by_whole_pixels_and_fills_with_gray(pixels):
    image, expected = noise(), np.full((9, 7, 3), 128)
    for y in range(9):
        if 0 <= y + pixels < 9:
            expected[y] = image[y + int(pixels)]
    np.testing.assert_array_equal(distort(image, "TranslateY", pixels), expected)
    turned = distort(np.ascontiguousarray(image.transpose(1, 0, 2)), "TranslateX", pixels)
    np.testing.assert_array_equal(turned.transpose(1, 0, 2), expected)


def test_shear_and_rotation_take_the_nearest_pixel_and_fill_with_gray():
    image = noise(11, 11)
    allowed = {tuple(pixel) for pixel in image.reshape(-1, 3)} | {policy.FILL}
    for op, argument in (("ShearX", 0.3), ("ShearY", -0.3), ("Rotate", 30.0)):
        moved = distort(image, op, argument)
        assert {tuple(pixel) for pixel in moved.reshape(-1, 3)} <= allowed
        assert (moved == 128).all(2).any()
        assert (moved != image).any()
    sheared = distort(image, "ShearX", 0.3)
    np.testing.assert_array_equal(sheared[0], image[0])
    np.testing.assert_array_equal(sheared[10, :8], image[10, 3:])  # 0.3 · 10.5 pixels at the last row's centre
    quarter = distort(image, "Rotate", 90.0)
    np.testing.assert_array_equal(quarter, np.rot90(image))


def test_cutout_covers_a_square_about_a_uniform_centre_cut_at_the_border():
    image, draw = np.zeros((12, 20, 3), dtype=np.uint8), generator()
    whole, hits = 0, np.zeros((12, 20))
    for _ in range(4000):
        covered = policy.distort(image, [("Cutout", 3)], draw)[..., 0] == 128
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        assert covered.sum() == len(rows) * len(columns) == covered[rows[0] : rows[-1] + 1].sum()
        assert 3 <= len(rows) <= 6
        assert 3 <= len(columns) <= 6
        whole += covered.sum() == 36
        hits += covered
    assert not image.any()  # the caller's image is left alone
    assert within_chance(whole, 4000, 7 / 12 * 15 / 20)  # centres from 3 to side - 3
    assert within_chance(hits[6, 10], 4000, 6 / 12 * 6 / 20)
    assert within_chance(hits[0, 0], 4000, 4 / 12 * 4 / 20)  # centres 0 to 3
    assert within_chance(hits[11, 19], 4000, 3 / 12 * 3 / 20)  # the square ends one pixel short beyond its centre
    np.testing.assert_array_equal(distort(noise(), "Cutout", 0), noise())
    assert (distort(noise(), "Cutout", 40) == 128).all()


def test_jitter_draws_factors_and_order_as_torchvision():
    jitter, draw = policy.ColorJitter(0.4, 1.5, 0.1), generator()
    factors, orders = collections.defaultdict(list), collections.Counter()
    for _ in range(6000):
        steps = jitter.choose(draw)
        orders[tuple(op for op, _ in steps)] += 1
        for op, factor in steps:
            factors[op].append(factor)
    assert len(orders) == 6
    assert all(within_chance(count, 6000, 1 / 6) for count in orders.values())
    for op, low, high in (("Brightness", 0.6, 1.4), ("Contrast", 0.0, 2.5), ("Color", 0.9, 1.1)):
        edges = np.linspace(low, high, 5)
        assert low <= min(factors[op])
        assert max(factors[op]) <= high
        assert all(within_chance(count, 6000, 0.25) for count in np.histogram(factors[op], edges)[0])
    assert [op for op, _ in policy.ColorJitter(0, 0.2, 0).choose(draw)] == ["Contrast"]


def test_jitter_changes_pixels_as_torchvision():
    image = noise()
    for op, adjust in (
        ("Brightness", functional.adjust_brightness),
        ("Contrast", functional.adjust_contrast),
        ("Color", functional.adjust_saturation),
    ):
        for factor in (0.0, 0.7, 1.0, 1.4):
            theirs = np.asarray(adjust(Image.fromarray(image), factor))
            np.testing.assert_array_equal(distort(image, op, factor), theirs)


@pytest.mark.parametrize("chosen", POLICIES, ids=lambda p: type(p).__name__)
def test_the_generator_alone_decides(chosen):
    image, unread = noise(), (global_random.getstate(), str(np.random.get_state()))
    first = [chosen(image, generator(seed)).tobytes() for seed in range(40)]
    again = [pickle.loads(pickle.dumps(chosen))(image, generator(seed)).tobytes() for seed in range(40)]
    assert first == again
    assert len(set(first)) > 10
    assert (global_random.getstate(), str(np.random.get_state())) == unread
    np.testing.assert_array_equal(image, noise())  # the caller's image is left alone


@pytest.mark.parametrize("chosen", POLICIES, ids=lambda p: type(p).__name__)
def test_a_call_applies_what_it_chooses(chosen):
    for seed in range(40):
        draw = generator(seed)
        expected = policy.distort(noise(), chosen.choose(draw), draw)
        np.testing.assert_array_equal(chosen(noise(), generator(seed)), expected)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1), (2, 3), (16, 16)])
@pytest.mark.parametrize("level", [0, 2, 5, 10, 30])
def test_every_operation_keeps_shape_and_type_of_small_and_of_gray_images(shape, level):
    gray, view = np.full((*shape, 3), 77, dtype=np.uint8), noise(20, 20)[: shape[0], 1 : 1 + shape[1]]
    for image in (noise(*shape), gray, view):
        for op in policy.RANDAUGMENT_OPS:
            result = distort(image, op, policy.level_argument(op, level, policy.RANDAUGMENT_REACH))
            assert result.shape == image.shape
            assert result.dtype == np.uint8
    for op in ("AutoContrast", "Equalize", "Sharpness", "Contrast", "Color"):
        argument = policy.level_argument(op, level, policy.RANDAUGMENT_REACH)
        np.testing.assert_array_equal(distort(gray, op, argument), gray)  # nothing in it to stretch or to blend


def test_names_build_their_policies():
    jitter = policy.ColorJitter(0.1, 0.0, 0.3)
    assert policy.build_policy("none", 2, 10.0, (0, 0, 0)) == ()
    assert policy.build_policy("none", 2, 10.0, [0.1, 0.0, 0.3]) == (jitter,)
    assert policy.build_policy("autoaugment", 2, 10.0, (0, 0, 0)) == (policy.AutoAugment(),)
    built = policy.build_policy("randaugment", 3, 15.0, (0.1, 0.0, 0.3))
    assert built == (policy.RandAugment(3, 15.0), jitter)
    assert pickle.loads(pickle.dumps(built)) == built
