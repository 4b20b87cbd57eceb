"""Image policies on the host: AutoAugment v0, RandAugment and colour jitter, on uint8 [H, W, 3] images.

Figures are those of the TPU EfficientNet code (tensorflow/tpu, models/official/efficientnet/autoaugment.py; papers
arXiv:1805.09501, arXiv:1909.13719), the pixel operations are PIL's. Where the two differ:

Contrast: PIL blends with the mean luma; the reference by mistake with the constant min(255, H·W / 256).
Sharpness: PIL rounds the smoothed image, the reference truncates it; both leave the outermost pixels unsmoothed.
Color, Contrast: PIL's luma is in integers, at most one grey level away.
Shear: about the image's corner, in the reference about its first pixel's centre: at most 0.15 pixel of shift.
Solarize at level 10 and above: changes nothing; in the reference 256 does not fit the uint8 it is compared in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MAX_LEVEL = 10.0
FILL = (128, 128, 128)  # of pixels moved in from outside, and of what Cutout covers
ADD_BELOW = 128  # SolarizeAdd brightens values below this

# Argument of each operation at MAX_LEVEL: degrees, bits kept, grey levels, slope, pixels; cutout: half the side.
REACH = {"Rotate": 30.0, "Posterize": 4, "Solarize": 256, "SolarizeAdd": 110, "ShearX": 0.3, "ShearY": 0.3}
AUTOAUGMENT_REACH = REACH | {"TranslateX": 250.0, "TranslateY": 250.0, "Cutout": 100}
RANDAUGMENT_REACH = REACH | {"TranslateX": 100.0, "TranslateY": 100.0, "Cutout": 40}
ENHANCED = frozenset({"Color", "Contrast", "Brightness", "Sharpness"})
NEGATED = frozenset({"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"})

# (operation, probability, level), two to a sub-policy, in the reference's order.
POLICY_V0 = (
    (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
    (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
    (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
    (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
    (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
    (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
    (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
    (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
    (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
    (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
    (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
    (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
    (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
    (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
    (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
    (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),  # 225 pixels: nothing but fill is left of an image of 224
    (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
    (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
    (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
    (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
    (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
    (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
    (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
    (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
    (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
)

Step = tuple[str, float | None]  # an operation and its argument, sign included
Policy = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class AutoAugment:
    """One of the sub-policies of v0, each equally likely; each operation of it by its own probability."""

    def choose(self, random: np.random.Generator) -> list[Step]:
        drawn = POLICY_V0[random.integers(len(POLICY_V0))]
        return [draw_step(op, level, AUTOAUGMENT_REACH, random) for op, p, level in drawn if random.random() < p]

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """uint8 [H, W, 3] to the same shape."""
        return distort(image, self.choose(random), random)


@dataclass(frozen=True)
class RandAugment:
    """`layers` operations one after the other, each any of the sixteen, all at one magnitude on the scale of 10.

    probability: of applying a chosen operation. The reference draws it from U(0.2, 0.8) anew each time, the same as
    one half, but then drops the draw and always applies, which is 1.0 here."""

    layers: int = 2
    magnitude: float = 10.0
    probability: float = 0.5

    def choose(self, random: np.random.Generator) -> list[Step]:
        drawn = [RANDAUGMENT_OPS[random.integers(len(RANDAUGMENT_OPS))] for _ in range(self.layers)]
        return [
            draw_step(op, self.magnitude, RANDAUGMENT_REACH, random)
            for op in drawn
            if random.random() < self.probability
        ]

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """uint8 [H, W, 3] to the same shape."""
        return distort(image, self.choose(random), random)


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast and saturation in random order, each by a factor of U(max(0, 1 - x), 1 + x); as
    torchvision's. x = 0 leaves the operation out."""

    brightness: float
    contrast: float
    saturation: float

    def choose(self, random: np.random.Generator) -> list[Step]:
        widths = {"Brightness": self.brightness, "Contrast": self.contrast, "Color": self.saturation}
        drawn = [(op, random.uniform(max(0.0, 1.0 - x), 1.0 + x)) for op, x in widths.items() if x]
        return [drawn[i] for i in random.permutation(len(drawn))]

    def __call__(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """uint8 [H, W, 3] to the same shape."""
        return distort(image, self.choose(random), random)


def build_policy(
    name: str, layers: int, magnitude: float, jitter: Sequence[float], probability: float = 0.5
) -> tuple[Policy, ...]:
    """What to apply in turn. name: none, autoaugment, or randaugment, which alone reads layers, magnitude, probability.

    jitter: strengths of brightness, contrast, saturation; it comes last, and not at all if each is 0."""
    policies = {
        "none": (),
        "autoaugment": (AutoAugment(),),
        "randaugment": (RandAugment(layers, magnitude, probability),),
    }
    return policies[name] + ((ColorJitter(*jitter),) if any(jitter) else ())


def level_argument(op: str, level: float, reach: Mapping[str, float]) -> float | None:
    """Argument of an operation before its random sign; None for one that takes none.

    It grows with the level, the effect need not: Posterize and Solarize change the less, and enhancement, by 0.1 to
    1.9, changes nothing at level 5. An integer reach gives an integer, rounded down."""
    if op in ENHANCED:
        return level / MAX_LEVEL * 1.8 + 0.1
    if op not in reach:
        return None
    argument = level / MAX_LEVEL * reach[op]
    return int(argument) if isinstance(reach[op], int) else argument


def draw_step(op: str, level: float, reach: Mapping[str, float], random: np.random.Generator) -> Step:
    """The operation with its argument, that of a movement negated half of the time."""
    argument = level_argument(op, level, reach)
    return op, (-argument if op in NEGATED and random.random() < 0.5 else argument)


def distort(image: np.ndarray, steps: Iterable[Step], random: np.random.Generator) -> np.ndarray:
    """Apply the steps in turn: uint8 [H, W, 3] to the same shape. random: for the places of Cutout."""
    picture = Image.fromarray(image)
    for op, argument in steps:
        picture = cutout(picture, argument, random) if op == "Cutout" else PIXELS[op](picture, argument)
    return np.asarray(picture)


def cutout(picture: Image.Image, pad: int, random: np.random.Generator) -> Image.Image:
    """Cover a square of side 2·pad with FILL; its centre is any pixel, what lies outside is cut off."""
    x, y = (int(random.integers(side)) for side in picture.size)
    covered = picture.copy()
    covered.paste(FILL, (x - pad, y - pad, x + pad, y + pad))
    return covered


def posterize(picture: Image.Image, bits: int) -> Image.Image:
    """Keep the upper bits of each value; at least one, for TensorFlow shifts no uint8 by more than 7."""
    return ImageOps.posterize(picture, min(max(bits, 1), 8))


def solarize_add(picture: Image.Image, added: int) -> Image.Image:
    table = [min(255, value + added) if value < ADD_BELOW else value for value in range(256)]
    return picture.point(table * len(FILL))


def warp(picture: Image.Image, *matrix: float) -> Image.Image:
    """Value at (x, y) from (a·x + b·y + c, d·x + e·y + f), nearest neighbour as in the reference."""
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.NEAREST, fillcolor=FILL
    )


PIXELS: dict[str, Callable[[Image.Image, float | None], Image.Image]] = {
    "AutoContrast": lambda picture, _: ImageOps.autocontrast(picture),
    "Equalize": lambda picture, _: ImageOps.equalize(picture),
    "Invert": lambda picture, _: ImageOps.invert(picture),
    "Rotate": lambda picture, degrees: picture.rotate(degrees, Image.Resampling.NEAREST, fillcolor=FILL),
    "Posterize": posterize,
    "Solarize": lambda picture, threshold: ImageOps.solarize(picture, threshold),
    "SolarizeAdd": solarize_add,
    "Color": lambda picture, factor: ImageEnhance.Color(picture).enhance(factor),
    "Contrast": lambda picture, factor: ImageEnhance.Contrast(picture).enhance(factor),
    "Brightness": lambda picture, factor: ImageEnhance.Brightness(picture).enhance(factor),
    "Sharpness": lambda picture, factor: ImageEnhance.Sharpness(picture).enhance(factor),
    "ShearX": lambda picture, slope: warp(picture, 1, slope, 0, 0, 1, 0),
    "ShearY": lambda picture, slope: warp(picture, 1, 0, 0, slope, 1, 0),
    "TranslateX": lambda picture, pixels: warp(picture, 1, 0, pixels, 0, 1, 0),
    "TranslateY": lambda picture, pixels: warp(picture, 1, 0, 0, 0, 1, pixels),
}

RANDAUGMENT_OPS = (*PIXELS, "Cutout")  # the sixteen of the reference
