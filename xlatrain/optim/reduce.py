"""The mean of gradients over replicas, in the precision asked for.

Low-precision sums with auto-precision scaling follow APS (arXiv:1911.08907; algorithm read in CPD's code): each tensor
is scaled by a power of two, the same on all replicas, so that the largest sum possible just fits the format. The format
is emulated: what travels is float32, rounded to its values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from xlatrain.config.schema import GradientConfig
from xlatrain.optim.clip import norm
from xlatrain.optim.flat import ROW, Layout, Segments
from xlatrain.optim.float_format import FLOAT32, FloatFormat, ceil_log2, power_of_two, quantize
from xlatrain.xla.collectives import all_gather, all_reduce, in_order, mean_over_replicas
from xlatrain.xla.world import world_size

_MEGABYTE = 2**20


@dataclass(frozen=True)
class GradientMean:
    """Mean of flat gradients over all replicas.

    form: what values are rounded to on their way. scale: APS. ordered: sum one replica after the other, rounding after
    each, as CPD does and hardware of that format would; else round once before and sum in float32. kahan: carry the
    rounding error of the ordered sum along. bucket: values per all-reduce; None = all in one. exact: ranges of the flat
    tensor that stay in float32 (hybrid precision).
    """

    form: FloatFormat
    scale: bool
    ordered: bool
    kahan: bool
    bucket: int | None
    exact: tuple[tuple[int, int], ...]

    report_error: bool

    def __call__(
        self, grads: torch.Tensor, extra: torch.Tensor, segments: Segments
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """grads: float32 [size], those of this replica; extra: float32 [n], always in float32. Returns the means of
        both, alike on all replicas, and |mean - float32 mean| / |float32 mean| of the gradients if it is reported."""
        if self.form == FLOAT32:
            both = self._in_buckets(torch.cat([grads, extra]), mean_over_replicas)
            return both[: len(grads)], both[len(grads) :], torch.zeros_like(grads[0]) if self.report_error else None
        share = grads / world_size()
        factor = segments.spread(self._factors(grads, segments)) if self.scale else torch.ones_like(grads)
        total = self._in_buckets(share * factor, self._sum)
        # One more all-reduce for all that stays in float32. XLA:CPU can starve when collectives run side by side.
        exact = [grads[first:last] for first, last in self.exact] + ([grads] if self.report_error else [])
        total, extra = in_order(total, torch.cat([extra, *exact]))
        sizes = [len(extra) - sum(map(len, exact)), *map(len, exact)]
        extra, *exact = mean_over_replicas(extra).split(sizes)
        mean = total / factor
        for (first, last), part in zip(self.exact, exact, strict=False):
            mean = torch.cat([mean[:first], part, mean[last:]])
        error = _relative(mean, exact[-1]) if self.report_error else None
        return mean, extra, error

    def _in_buckets(self, values: torch.Tensor, combine: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Combine values over replicas, bucket after bucket if asked for: of an ordered sum only one bucket's parts
        from all replicas are in memory at once."""
        if self.bucket is None or self.bucket >= len(values):
            return combine(values)
        combined: list[torch.Tensor] = []
        for part in values.split(self.bucket):
            if combined:
                part, combined[-1] = in_order(part, combined[-1])
            combined.append(combine(part))
        return torch.cat(combined)

    def _factors(self, grads: torch.Tensor, segments: Segments) -> torch.Tensor:
        """2^(ub - e) for each tensor, e = ceil(log2(largest |g| on any replica)): [tensors]. The mean's terms are
        |g| / replicas, so no sum of them passes 2^ub. A tensor of zeros has the smallest e and stays zero."""
        largest = segments.largest(grads).clamp_min(2.0**-126)
        exponent = all_reduce(ceil_log2(largest).float(), op="max")
        return power_of_two((self.form.bias - exponent).to(torch.int32).clamp(-126, 126))

    def _sum(self, share: torch.Tensor) -> torch.Tensor:
        if not self.ordered:
            return quantize(all_reduce(quantize(share, self.form)), self.form)
        total = torch.zeros_like(share)
        lost = torch.zeros_like(share)
        for term in all_gather(quantize(share, self.form) if self.scale else share):
            if self.kahan:
                corrected = quantize(term - lost, self.form)
                new = quantize(total + corrected, self.form)
                lost = quantize(quantize(new - total, self.form) - corrected, self.form)
                total = new
            else:
                total = quantize(total + term, self.form)
        return total


def _relative(value: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """|value - exact| / |exact|, 0 where both are 0."""
    return norm(value - exact) / norm(exact).clamp_min(1e-30)


def build_gradient_mean(config: GradientConfig, layout: Layout, last_layer: tuple[str, ...]) -> GradientMean:
    """The mean that a configuration describes; last_layer: names of the classifier's tensors."""
    exact = []
    if config.fp32_last_layer:
        for name, start, rows in zip(layout.names, layout.offsets, layout.rows, strict=True):
            if name in last_layer:
                exact.append((start * ROW, (start + rows) * ROW))
    bucket = None if config.bucket_mb is None else max(ROW, int(config.bucket_mb * _MEGABYTE / 4) // ROW * ROW)
    form = FloatFormat(config.exponent_bits, config.mantissa_bits)
    return GradientMean(
        form, config.scale, config.sum == "ordered", config.kahan, bucket, tuple(exact), config.report_error
    )


def describe_gradient(config: GradientConfig) -> str | None:
    """What happens to gradients on their way, in words, when that is not a plain float32 mean."""
    if (config.exponent_bits, config.mantissa_bits) == (FLOAT32.exponent, FLOAT32.mantissa):
        return None
    how = (
        "one after the other, rounded each time" if config.sum == "ordered" else "in float32, rounded before and after"
    )
    more = [
        "with auto-precision scaling" if config.scale else "without auto-precision scaling",
        *(["with Kahan summation"] if config.kahan else []),
        *(["the last layer in float32"] if config.fp32_last_layer else []),
    ]
    return (
        f"gradients travel as floats of {config.exponent_bits} exponent and {config.mantissa_bits} mantissa bits, "
        f"{', '.join(more)}, summed {how}: emulated, so no bytes are saved"
    )
