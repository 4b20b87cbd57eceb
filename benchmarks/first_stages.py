"""The first stages of an EfficientNet alone, compiled for a TPU: what folding does to each block, in a minute or two.

    python benchmarks/first_stages.py [--stages 3] [--json FILE] model=efficientnet_b2 cluster=tpu_v3_8 [OPTION=VALUE]

A train step of stem, so many stages, mean and classifier, 32 images a core, SGD, bf16, batch norm local to a core; more
overrides follow. ms by module, of the compiler's estimated cycles (`xlatrain plan` says what that is worth); nothing is
run. The stages behind are unchanged, so a whole model gains what its first stages gain, but for what the compiler moves
across the border.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

import timm
import torch
from torch import nn

IMAGES = 32


class FirstStages(nn.Module):
    """conv_stem, bn1, blocks[:stages] of timm's model of that name, mean over pixels, classifier."""

    def __init__(self, num_classes: int, name: str, stages: int):
        super().__init__()
        model = timm.create_model(name, num_classes=num_classes)
        self.conv_stem, self.bn1, self.blocks = model.conv_stem, model.bn1, model.blocks[:stages]
        self.classifier = nn.Linear(self.blocks[-1][-1].bn3.num_features if stages > 1 else 16, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.blocks(self.bn1(self.conv_stem(images))).mean((2, 3)))


def main() -> None:
    from xlatrain.config.compose import compose_config, register_schemas
    from xlatrain.planning.plan import check_plan, compile_traced, trace, with_defaults

    parser = argparse.ArgumentParser()
    parser.add_argument("--stages", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="+")
    asked = parser.parse_args()
    register_schemas()
    named, _ = compose_config(with_defaults(asked.overrides))
    own = [
        "model._target_=first_stages.FirstStages", f"+model.kwargs.name={named.model.name}",
        f"+model.kwargs.stages={asked.stages}", "model.drop_rate=null", "model.drop_path_rate=null",
        f"train.global_batch={IMAGES * named.cluster.replicas}", "optimizer=sgd", "precision=bf16",
        "model.sync_bn_group=local",
    ]  # fmt: skip
    run = check_plan(with_defaults([*asked.overrides, *own]))
    step = compile_traced(trace(run, print), "train", run, print)
    per_ms = run.config.cluster.chip.clock_mhz * 1e3
    table: dict[str, Counter] = defaultdict(Counter)
    for op in step.program.ops:
        table[".".join(op.scope.split(".")[:3]) or "rest"][op.kind] += op.cycles / per_ms
    phase, gib = run.phases[0], step.memory.temporaries / 2**30
    what = f"{asked.stages} stages of {named.model.name} on {run.config.cluster.name}"
    print(f"{what}, {'folded' if phase.fold else 'plain'}:")
    total = step.program.cycles / per_ms
    print(f"  {total:.2f} ms, temporaries {gib:.2f} GiB, compiled in {step.compile_seconds:.0f} s")
    for module, kinds in sorted(table.items(), key=lambda item: -sum(item[1].values())):
        listed = ", ".join(f"{kind} {ms:.2f}" for kind, ms in kinds.most_common() if ms >= 0.01)
        if sum(kinds.values()) >= 0.05:
            print(f"  {sum(kinds.values()):7.2f}  {module:14} {listed}")
    if asked.json:
        found = {module: dict(kinds) for module, kinds in table.items()}
        asked.json.write_text(json.dumps({"ms": step.program.cycles / per_ms, "modules": found}, indent=1))


if __name__ == "__main__":
    main()
