"""What a run will need, take and cost on its cluster, from its compiled steps and the facts of the cluster."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from xlatrain.config.cluster import ClusterConfig, usd_per_hour
from xlatrain.planning.bounds import Product
from xlatrain.planning.network import Collective, collective_ms
from xlatrain.planning.program import LANES, Op, Program
from xlatrain.preflight.checked import CheckedRun

GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes of device memory per replica, as the compiler planned them. A donated argument and the result that is
    written over it count once."""

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclass(frozen=True)
class Step:
    """A compiled step: its memory, or how much it would have needed, and its program."""

    fits: bool
    memory: Memory | None
    needed: int
    program: Program | None
    compile_seconds: float


@dataclass(frozen=True)
class Estimate:
    """A plan's figures. flops: of the model's train step on a replica, not of the form it was compiled to. Times in
    ms, None where a fact of the cluster is missing; `missing` says which.

    device_ms: estimated cycles / clock. network_ms: all collectives, alpha-beta model. step_ms: their sum, nothing
    overlapped; step_ms_overlapped: the gradient's all-reduce hidden behind the device's work as far as it goes.
    """

    run: CheckedRun
    train: Step
    eval: Step
    parameters: int
    flops: float
    device_ms: float | None
    eval_ms: float | None
    collectives: tuple[tuple[Collective, float | None], ...]
    network_ms: float | None
    step_ms: float | None
    step_ms_overlapped: float | None
    hours: float | None
    warnings: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def cluster(self) -> ClusterConfig:
        return self.run.config.cluster

    @property
    def capacity(self) -> int:
        """Bytes of memory of a replica."""
        chip = self.cluster.chip
        return int(chip.hbm_gib * GIB / chip.devices) if chip and chip.hbm_gib else 0

    @property
    def fits(self) -> bool:
        """Both steps compile and stay within memory."""
        return all(self.holds(step) for step in (self.train, self.eval))

    def holds(self, step: Step) -> bool:
        """Whether a step fits the chip's memory: the compiler's verdict, and the sum of what it needs."""
        return step.fits and (not self.capacity or step.needed <= self.capacity)

    @property
    def images_per_second(self) -> float | None:
        return self.run.config.train.global_batch / self.step_ms * 1e3 if self.step_ms else None

    @property
    def allreduce_fraction(self) -> float | None:
        return self.network_ms / self.step_ms if self.step_ms and self.network_ms is not None else None

    @property
    def mfu(self) -> float | None:
        """FLOPs of the model's convolutions and products / (step time · peak of a replica)."""
        chip = self.cluster.chip
        if not self.step_ms or not chip or not chip.peak_tflops:
            return None
        return self.flops / (self.step_ms * 1e-3 * chip.peak_tflops * 1e12 / chip.devices)

    @property
    def epochs_per_hour(self) -> float | None:
        return self.images_per_second * 3600 / self.run.lengths.samples if self.images_per_second else None

    @property
    def chips(self) -> int:
        return math.prod(self.cluster.topology)

    def cost(self, spot: bool = False) -> float | None:
        """USD for the run."""
        price = usd_per_hour(self.cluster, spot)
        return self.hours * price if self.hours is not None and price is not None else None

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON has them."""
        config, program = self.run.config, self.train.program
        return {
            "model": config.model.name,
            "cluster": self.cluster.name,
            "replicas": self.cluster.replicas,
            "global_batch": config.train.global_batch,
            "local_batch": config.train.global_batch // self.cluster.replicas,
            "image_size": config.data.image_size,
            "bn_group": self.run.phases[0].bn_group,
            "parameters": self.parameters,
            "fits": self.fits,
            "hbm_bytes": max(self.train.needed, self.eval.needed),
            "hbm_capacity_bytes": self.capacity,
            "memory": {"train": _memory(self.train), "eval": _memory(self.eval)},
            "device_ms": self.device_ms,
            "eval_ms": self.eval_ms,
            "network_ms": self.network_ms,
            "step_ms": self.step_ms,
            "step_ms_overlapped": self.step_ms_overlapped,
            "images_per_second": self.images_per_second,
            "images_per_second_per_host": _divided(self.images_per_second, self.cluster.hosts),
            "images_per_second_per_replica": _divided(self.images_per_second, self.cluster.replicas),
            "allreduce_fraction": self.allreduce_fraction,
            "mfu": self.mfu,
            "flops": self.flops,
            "flops_compiled": program.flops if program else None,
            "collectives": [{**asdict(c), "ms": ms} for c, ms in self.collectives],
            "ms_by_kind": {kind: self.ms(cycles) for kind, cycles in program.by_kind().items()} if program else {},
            "ms_by_part": {part: self.ms(cycles) for part, cycles in program.by_part().items()} if program else {},
            "epochs_per_hour": self.epochs_per_hour,
            "steps": self.run.lengths.total_steps,
            "epochs": self.run.lengths.epoch(self.run.lengths.total_steps),
            "hours": self.hours,
            "cost_usd": self.cost(),
            "cost_usd_spot": self.cost(spot=True),
            "compile_seconds": {"train": self.train.compile_seconds, "eval": self.eval.compile_seconds},
            "idle_lanes": idle_lanes(program) if program else None,
            "ops": [{**asdict(op), "ms": self.ms(op.cycles)} for op in top_ops(program, 30)] if program else [],
            "products": [{**asdict(p), "least": least} for p, least in bounded_products(program, self.cluster)]
            if program
            else [],
            "warnings": list(self.warnings),
            "missing": list(self.missing),
        }

    def ms(self, cycles: int) -> float | None:
        """Cycles of a core as milliseconds; None if its clock is not known."""
        return _ms(cycles, self.cluster)


def estimate(
    run: CheckedRun, train: Step, evaluation: Step, parameters: int, flops: float, depthwise: frozenset[str]
) -> Estimate:
    """Put the figures together. depthwise: modules whose convolutions are depthwise, also where they are compiled as
    dense ones."""
    if train.program:
        train = replace(train, program=train.program.with_depthwise(depthwise))
    cluster, lengths = run.config.cluster, run.lengths
    chip = cluster.chip
    device_ms, eval_ms = (_ms(s.program.cycles, cluster) if s.program else None for s in (train, evaluation))
    collectives = tuple((c, collective_ms(c, cluster)) for c in (train.program.collectives if train.program else ()))
    known = train.program is not None and all(ms is not None for _, ms in collectives)
    network_ms = sum(ms for _, ms in collectives) if known else None
    step_ms = overlapped = hours = None
    if device_ms is not None and network_ms is not None:
        step_ms = device_ms + network_ms
        hidden = max(
            (ms for c, ms in collectives if c.op == "all-reduce" and c.group_size == cluster.replicas), default=0
        )
        overlapped = max(device_ms, hidden) + network_ms - hidden
        evaluations = lengths.evaluations()
        eval_steps = math.ceil(run.dataset.val.samples / run.evaluation.batch)
        hours = (lengths.total_steps * step_ms + evaluations * eval_steps * (eval_ms or 0.0)) / 3.6e6
    missing = [
        what
        for what, fact in (
            ("times: the chip's clock is not known (cluster.chip.clock_mhz)", chip and chip.clock_mhz),
            (
                "network time: the cluster's links are not known (cluster.topology, cluster.chip.ici_*)",
                chip and chip.ici_gb_per_s,
            ),
            ("cost: no price (cluster.chip.price_on_demand)", chip and chip.price_on_demand),
            ("input rate of a host: their number is not known (cluster.hosts)", cluster.hosts),
        )
        if not fact
    ]
    return Estimate(
        run, train, evaluation, parameters, flops, device_ms, eval_ms, collectives, network_ms, step_ms, overlapped,
        hours, tuple(_warnings(run, train)), tuple(missing),
    )  # fmt: skip


def _ms(cycles: int, cluster: ClusterConfig) -> float | None:
    return cycles / (cluster.chip.clock_mhz * 1e3) if cluster.chip and cluster.chip.clock_mhz else None


def top_ops(program: Program, count: int) -> list[Op]:
    """The most expensive ops."""
    return sorted(program.ops, key=lambda op: -op.cycles)[:count]


def bounded_products(program: Program, cluster: ClusterConfig) -> list[tuple[Product, float]]:
    """Pointwise and dense products that have to move 1 MB or more, each with the bytes no schedule can stay below, the
    worst first. None where the chip's on-chip memory is not known."""
    memory = ((cluster.chip.vmem_mib if cluster.chip else None) or 0) * 2**20
    pairs = [(p, p.bound(memory)) for p in program.products] if memory else []
    return sorted(((p, least) for p, least in pairs if least >= 1e6), key=lambda pair: pair[1] - pair[0].moved)


def idle_lanes(program: Program) -> float:
    """Share of the time, weighted by each op's lanes, in which a lane stands idle."""
    tiled = [op for op in program.ops if op.lanes is not None]
    total = sum(op.cycles for op in tiled)
    return sum(op.cycles * (1.0 - op.lanes / LANES) for op in tiled) / total if total else 0.0


def _warnings(run: CheckedRun, train: Step) -> list[str]:
    """What is worth a word."""
    found: list[str] = []
    program = train.program
    if program is None:
        return found
    local = run.config.train.global_batch // run.config.cluster.replicas
    total = max(1, program.cycles)
    narrow = [op for op in program.ops if op.lanes is not None and op.lanes <= 64 and op.cycles > 0.002 * total]
    for lanes in sorted({op.lanes for op in narrow}):
        mine = [op for op in narrow if op.lanes == lanes]
        share = sum(op.cycles for op in mine) / total
        if share >= 0.02:
            batch = lanes == local and all(op.batch_minor for op in mine)
            why = f"local batch {local}" if batch else f"dimensions of {lanes}"
            places = ", ".join(dict.fromkeys(op.scope or op.name for op in sorted(mine, key=lambda o: -o.cycles)[:3]))
            found.append(
                f"{why} leave{'s' if batch else ''} {1 - lanes / LANES:.0%} of the lanes idle in {share:.0%} "
                f"of the device's time ({places}, …)"
            )
    copies = program.by_kind().get("copy", 0) / total
    if copies > 0.1:
        found.append(f"{copies:.0%} of the device's time goes into copies")
    if run.config.precision.name == "fp32":
        found.append(
            "precision=fp32: convolutions run at a fraction of the bf16 peak; precision=bf16 is the usual choice"
        )
    return found


def _memory(step: Step) -> dict[str, int] | None:
    return {**asdict(step.memory), "total": step.memory.total} if step.memory else None


def _divided(value: float | None, by: int | None) -> float | None:
    return value / by if value is not None and by else None
