"""Decoding gives PIL's pixels, whatever the way there, and crops are drawn as the reference draws them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from xlatrain.data.order import sample_generator
from xlatrain.data.pixels import decode
from xlatrain.data.pixels.crop import Box, CentreCrop, RandomCrop, SquareCrop, draw_tf
from xlatrain.data.pixels.decode import Decoder, decode_image, shift_image

try:
    from nvidia import nvimgcodec  # noqa: F401

    WAYS = [False, True]
except ImportError:
    WAYS = [False]


def photo(height, width, seed=0):
    """Smooth shapes with noise: as hard on a filter as a photograph."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 40
    waves = np.stack([np.sin(x + i) * np.cos(y * (1 + i / 3)) for i in range(3)], -1) * 100 + 128
    return Image.fromarray(np.uint8(np.clip(waves + random.normal(0, 25, (height, width, 3)), 0, 255)))


def encode(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pil(encoded, box, size, filter=Image.Resampling.BICUBIC):
    top, left, height, width = box
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    return np.asarray(image.crop((left, top, left + width, top + height)).resize((size, size), filter)).astype(int)


BOXES = [Box(0, 0, 300, 400), Box(10, 20, 100, 90), Box(3, 5, 250, 120), Box(200, 100, 100, 300), Box(0, 1, 40, 50)]


@pytest.mark.parametrize("fast", WAYS)
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("filter", ["bicubic", "bilinear"])
@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 85, "subsampling": 0}, {"progressive": True}])
def test_a_jpeg_comes_out_as_pil_has_it(fast, box, filter, options):
    """Two grey levels: torch's kernel has 16-bit weights, PIL's 22-bit ones."""
    encoded, row = encode(photo(300, 400), **options), np.empty((64, 64, 3), np.uint8)
    decoder = Decoder(filter, fast=fast)
    decoder(encoded, lambda height, width: box, row)
    assert np.abs(by_pil(encoded, box, 64, Image.Resampling[filter.upper()]) - row).max() <= 2
    assert decoder.fallbacks == 0


@pytest.mark.parametrize("fast", WAYS)
def test_a_crop_decodes_to_the_same_pixels_as_the_whole(fast):
    """A baseline JPEG is decoded only down to the crop: its last rows must not see the cut."""
    for subsampling in (0, 1, 2):
        encoded = encode(photo(331, 277), quality=92, subsampling=subsampling)
        whole, decoder = np.asarray(Image.open(io.BytesIO(encoded))), Decoder(fast=fast)
        for bottom in range(8, 331, 17):
            pixels = decoder.crop(encoded, lambda height, width, bottom=bottom: Box(0, 0, bottom, width))
            assert np.array_equal(pixels, whole[:bottom])
        assert decoder.fallbacks == 0


@pytest.mark.parametrize("fast", WAYS)
@pytest.mark.parametrize("name", ["png", "webp", "gray", "cmyk", "exif", "palette", "png named jpeg"])
def test_every_kind_of_image_is_read(fast, name):
    image, options, kind = photo(120, 90), {}, "PNG"
    if name in ("gray", "cmyk", "exif"):
        kind = "JPEG"
        image = image.convert({"gray": "L", "cmyk": "CMYK", "exif": "RGB"}[name])
    if name == "exif":  # the orientation is not applied: neither the reference nor timm does
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    if name == "webp":
        kind, options = "WEBP", {"lossless": True}
    if name == "palette":
        image = image.quantize(32)
    encoded, row = encode(image, kind, **options), np.empty((32, 32, 3), np.uint8)
    Decoder(fast=fast)(encoded, CentreCrop(32, 0), row)
    assert np.abs(by_pil(encoded, CentreCrop(32, 0)(120, 90), 32) - row).max() <= 2


@pytest.mark.parametrize("fast", WAYS)
def test_damage_is_refused_where_pil_refuses_it(fast):
    encoded = encode(photo(200, 200))
    for bad in (b"", b"no image", encoded[:10], encoded[:300]):
        with pytest.raises((ValueError, OSError)):
            Decoder(fast=fast)(bad, CentreCrop(32, 0), np.empty((32, 32, 3), np.uint8))


@pytest.mark.parametrize(("encoded", "words"), [(b"", "it is empty"), (b"%!PS-Adobe", "starts with b'%!PS-Ado'")])
def test_what_is_no_image_is_said_so(encoded, words):
    with pytest.raises(ValueError, match=words):
        Decoder(fast=False).crop(encoded, CentreCrop(8, 0))


def test_sixteen_bits_keep_their_upper_eight():
    ramp = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    pixels = Decoder(fast=False).crop(encode(Image.fromarray(ramp), "PNG"), CentreCrop(64, 0))
    assert np.array_equal(pixels[..., 0], ramp >> 8)


def tiff(samples, bits, kind=1, white=1):
    """A gray TIFF of 16 x 16 samples as they lie in memory. kind: 1 unsigned, 2 signed, 3 floats; white: 0 where 0 is
    white. PIL writes few of these."""
    tags = {256: 16, 257: 16, 258: bits, 259: 1, 262: white, 273: 8, 277: 1, 278: 16, 279: len(samples), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<4sI", b"II*", 8 + len(samples)) + samples + struct.pack("<H", len(tags)) + entries + bytes(4)


RAMP = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize(
    ("samples", "bits", "kind", "what"),
    [
        ((RAMP / 255).astype("<f4"), 32, 3, "32-bit floats"),
        (RAMP.astype("<f4"), 32, 3, "32-bit floats"),
        (RAMP.astype("<i4"), 32, 2, "32-bit signed integers"),
        (RAMP.astype("<u4"), 32, 1, "32-bit integers"),
        (RAMP.astype("<i2"), 16, 2, "16-bit signed integers"),
        ((RAMP - 128).astype("i1"), 8, 2, "8-bit signed integers"),
    ],
)
def test_samples_whose_range_nothing_tells_are_refused(samples, bits, kind, what):
    """A float TIFF would be black, or white, without a word."""
    with pytest.raises(ValueError, match=f"a TIFF of {what}, whose range is not known"):
        Decoder(fast=False).crop(tiff(samples.tobytes(), bits, kind), CentreCrop(16, 0))


def test_a_gray_tiff_of_a_known_range_is_what_it_shows():
    twelve = (RAMP * 16).reshape(-1, 2)
    packed = np.stack([twelve[:, 0] >> 4, (twelve[:, 0] & 15) << 4 | twelve[:, 1] >> 8, twelve[:, 1] & 255], 1)
    sixteen, eight = (RAMP * 257).astype("<u2").tobytes(), RAMP.astype("u1").tobytes()
    cases = [
        (tiff(eight, 8), RAMP),
        (tiff(eight, 8, white=0), 255 - RAMP),
        (tiff(packed.astype("u1").tobytes(), 12), RAMP),
        (tiff(sixteen, 16), RAMP),
        (tiff(sixteen, 16, white=0), 255 - RAMP),
    ]
    for encoded, gray in cases:
        pixels = Decoder(fast=False).crop(encoded, CentreCrop(16, 0))
        assert np.array_equal(pixels, np.repeat(gray[..., None], 3, 2))


@pytest.mark.parametrize("fast", WAYS)
def test_a_jpeg_cut_short_is_refused_also_where_the_crop_ends_before(fast):
    encoded = encode(photo(200, 200))
    with pytest.raises((ValueError, OSError)):
        Decoder(fast=fast).crop(encoded[: len(encoded) * 3 // 4], lambda height, width: Box(0, 0, 20, 20))


@pytest.mark.parametrize("fast", WAYS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_decompression_bomb_is_refused(fast, kind):
    with pytest.raises(ValueError, match="100 x 200 pixels are more than the 19999 allowed"):
        Decoder(fast=fast, max_pixels=19_999)(
            encode(photo(200, 100), kind), CentreCrop(8, 0), np.empty((8, 8, 3), np.uint8)
        )


def test_resizing_is_pils_at_every_shape():
    """Also where PIL takes the vertical pass first."""
    random, decoder = np.random.default_rng(0), Decoder(fast=False)
    for _ in range(60):
        height, width, size = (int(n) for n in random.integers(8, 200, 3))
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        row = np.empty((size, size, 3), np.uint8)
        decoder.resize(pixels, row)
        expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(expected - row).max() <= 3, (height, width, size)


def test_evaluation_looks_at_the_reference_centre():
    """int(224 / 256 · 375) = 328, offsets rounded up: the TPU code's decode_and_center_crop."""
    assert CentreCrop(224, 32)(375, 500) == Box(24, 86, 328, 328)
    assert CentreCrop(32, 0)(32, 32) == Box(0, 0, 32, 32)
    assert CentreCrop(224, 32)(1, 1) == Box(0, 0, 1, 1)


@pytest.mark.parametrize("sampling", ["tf", "torchvision"])
def test_random_crops_keep_their_limits_and_fill_them(sampling):
    crop, random = RandomCrop(CentreCrop(224, 32), 0.08, sampling), np.random.default_rng(0)
    boxes = [crop(375, 500, random) for _ in range(4000)]
    areas = np.array([b.height * b.width / (375 * 500) for b in boxes])
    aspects = np.array([b.width / b.height for b in boxes])
    assert all(b.top >= 0 and b.top + b.height <= 375 and b.left + b.width <= 500 for b in boxes)
    lowest = 0.1 if sampling == "tf" else 0.08
    assert lowest * 0.99 <= areas.min() < lowest * 1.1
    assert areas.max() > 0.9
    assert 0.74 <= aspects.min() < 0.77
    assert 1.3 < aspects.max() <= 1.35
    centre = np.mean([(b.left + b.width / 2) / 500 for b in boxes])
    assert centre == pytest.approx(0.5, abs=0.02)


def test_torchvisions_sampling_is_torchvisions():
    """The same distribution: mean area and mean logarithm of the aspect over many draws."""
    import torch
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    crop, random = RandomCrop(CentreCrop(224, 0), 0.08, "torchvision"), np.random.default_rng(0)
    image = torch.empty(3, 300, 500)
    theirs = [RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))[2:] for _ in range(3000)]
    ours = [crop(300, 500, random)[2:] for _ in range(3000)]
    for figure in (lambda h, w: h * w / 150_000, lambda h, w: np.log(w / h)):
        a, b = (np.array([figure(*size) for size in sizes]) for sizes in (theirs, ours))
        assert a.mean() == pytest.approx(b.mean(), abs=4 * a.std() / np.sqrt(3000) * 1.5)


def test_tensorflows_sampling_draws_heights_evenly():
    """Height is uniform between those of the smallest and largest area, so large areas are rarer than torchvision's."""
    random = np.random.default_rng(0)
    sizes = [s for s in (draw_tf(1000, 1000, 0.08, random) for _ in range(4000)) if s]
    area = np.mean([h * w for h, w in sizes]) / 1e6
    assert area == pytest.approx(0.40, abs=0.02)  # torchvision's: 0.54 less what does not fit


def test_what_cannot_be_drawn_is_the_centre():
    crop = RandomCrop(CentreCrop(32, 0), 0.08, "tf")
    assert crop(10, 1000, np.random.default_rng(0)) == Box(0, 495, 10, 10)


def test_a_square_is_as_large_as_evaluations_and_lies_anywhere():
    crop, random = SquareCrop(CentreCrop(7, 1)), np.random.default_rng(0)
    boxes = {crop(8, 10, random) for _ in range(300)}
    assert {(box.height, box.width) for box in boxes} == {(7, 7)}
    assert {(box.top, box.left) for box in boxes} == {(top, left) for top in range(2) for left in range(4)}


def test_shift_translates_and_repeats_the_edge():
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    shifted = {shift_image(image, 1, sample_generator(0, 0, i)).tobytes() for i in range(200)}
    assert len(shifted) == 9
    assert image.tobytes() in shifted


def test_one_image_on_its_own():
    assert decode_image(encode(photo(50, 50), "PNG"), 16, CentreCrop(16, 0)).shape == (16, 16, 3)
    assert decode.MAX_PIXELS == 64_000_000
