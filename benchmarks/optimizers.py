"""What an update costs: ours over flat tensors, timm's and torch's over EfficientNet-B2's 301, all on XLA:CPU.

    python benchmarks/optimizers.py [--steps 10] [--json FILE]

Each optimizer updates the parameters of EfficientNet-B2 (9.1 M values) from fixed gradients, as one compiled program.
compile: seconds to compile it. update: milliseconds from handing it over to its results being there, the median of the
steps, taken in turn with the others. Theirs are traced by running optimizer.step() on lazy tensors, captured and
replayed by the same engine, so that only the programs differ. Ours includes slicing norms out of the flat tensor, but
not packing the gradients, which a train step does for its one all-reduce anyway.

Evidence: --steps 8, 58 s, 2 CPU cores, torch 2.9.1, torch-xla 2.9.0, timm 1.0, 20 Nov 2026, one run:

    sgd         compile 0.06 s (torch 3.09, timm  2.25)   update 16.0 ms (torch 22.9, timm 15.5)
    adamw       compile 0.06 s (torch 3.89, timm  0.25)   update 17.7 ms (torch 30.0, timm 29.7)
    rmsprop_tf  compile 0.07 s (torch 4.63, timm  5.23)   update 26.7 ms (torch 34.9, timm 36.6)
    lars        compile 0.29 s (            timm  9.12)   update 48.3 ms (            timm 36.5)
    lamb        compile 0.29 s (            timm 12.27)   update 67.6 ms (            timm 52.1)

torch has no LARS and no LAMB. Ours are slower to run than timm's here since their norms read the data twice, to hold
where squares overflow or vanish; before that they took 39 and 58 ms.
Not run: on a TPU, or by its compiler.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

from xlatrain.files import write_json


def ours(config, names, shapes, replica):
    """(step, carry, inputs) of our optimizer over flat tensors."""
    import torch

    from xlatrain.optim.create import build_optimizer
    from xlatrain.optim.flat import Layout, Segments
    from xlatrain.optim.hyper import Hyper

    decayed = [i for i, s in enumerate(shapes) if len(s) > 1]
    order = decayed + [i for i in range(len(shapes)) if i not in set(decayed)]
    layout = Layout(tuple(names[i] for i in order), tuple(shapes[i] for i in order), len(decayed), len(decayed))
    optimizer = build_optimizer(config)
    flat = torch.randn(layout.size)
    carry = {"params": flat, "count": torch.ones(1)}
    carry |= {f"slot/{k}": torch.full_like(flat, v) for k, v in optimizer.slots.items()}
    inputs = {"grads": torch.randn(layout.size), "index": layout.segments(), "hyper": torch.tensor([0.01, 0.9])}

    def step(carry, inputs):
        segments = Segments(layout, inputs["index"])
        slots = {k.removeprefix("slot/"): t for k, t in carry.items() if k.startswith("slot/")}
        hyper = Hyper(inputs["hyper"][0], inputs["hyper"][1], carry["count"][0])
        params, slots = optimizer.update(carry["params"], inputs["grads"], slots, hyper, segments)
        return {"params": params, "count": carry["count"] + 1, **{f"slot/{k}": t for k, t in slots.items()}}, {}

    return step, carry, inputs


def theirs(make, names, shapes, replica):
    """(step, carry, inputs) of an optimizer of torch's or timm's over one tensor for each parameter."""
    import torch

    params = {f"p{i}": torch.randn(s) for i, s in enumerate(shapes)}
    grads = {f"g{i}": torch.randn(s) for i, s in enumerate(shapes)}
    probe = [torch.nn.Parameter(t.clone()) for t in params.values()]
    optimizer = make(probe)
    for p, g in zip(probe, grads.values(), strict=True):
        p.grad = g.clone()
    optimizer.step()  # makes the slots; their numbers do not matter here
    slots = {
        f"s{i}/{k}": v.detach().clone().float()
        for i, p in enumerate(probe)
        for k, v in optimizer.state[p].items()
        if isinstance(v, torch.Tensor) and v.ndim
    }
    # Counts of steps stay on the host, frozen into the program: torch's AdamW reads its own there.
    counts = [{k: v for k, v in optimizer.state[p].items() if f"s{i}/{k}" not in slots} for i, p in enumerate(probe)]

    def step(carry, inputs):
        lazy = [carry[f"p{i}"].clone().requires_grad_() for i in range(len(shapes))]
        again = make(lazy)
        for i, p in enumerate(lazy):
            p.grad = inputs[f"g{i}"]
            mine = {k.partition("/")[2]: t.clone() for k, t in carry.items() if k.startswith(f"s{i}/")}
            again.state[p] = mine | copy.deepcopy(counts[i])
        again.step()
        new = {f"p{i}": p.detach() for i, p in enumerate(lazy)}
        new |= {f"s{i}/{k}": t for i, p in enumerate(lazy) for k, t in again.state[p].items() if f"s{i}/{k}" in carry}
        return new, {}

    return step, {**params, **slots}, grads


def contenders():
    import timm.optim
    import torch

    from xlatrain.config.schema import AdamWConfig, LAMBConfig, LARSConfig, RMSpropTFConfig, SGDConfig

    return {
        "sgd": {
            "xlatrain": SGDConfig(nesterov=True, weight_decay=1e-4),
            "torch": lambda ps: torch.optim.SGD(ps, lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4),
            "timm": lambda ps: timm.optim.SGDW(ps, lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4),
        },
        "adamw": {
            "xlatrain": AdamWConfig(weight_decay=0.01),
            "torch": lambda ps: torch.optim.AdamW(ps, lr=0.01, weight_decay=0.01, foreach=False),
            "timm": lambda ps: timm.optim.AdamWLegacy(ps, lr=0.01, weight_decay=0.01),
        },
        "rmsprop_tf": {
            "xlatrain": RMSpropTFConfig(weight_decay=1e-5),
            "torch": lambda ps: torch.optim.RMSprop(
                ps, lr=0.01, alpha=0.9, momentum=0.9, eps=1e-3, weight_decay=1e-5, foreach=False
            ),
            "timm": lambda ps: timm.optim.RMSpropTF(ps, lr=0.01, alpha=0.9, momentum=0.9, eps=1e-3, weight_decay=1e-5),
        },
        "lars": {
            "xlatrain": LARSConfig(weight_decay=1e-5),
            "timm": lambda ps: timm.optim.Lars(ps, lr=0.01, momentum=0.9, weight_decay=1e-5),
        },
        "lamb": {
            "xlatrain": LAMBConfig(weight_decay=0.01, correct_bias=False),
            "timm": lambda ps: timm.optim.Lamb(
                ps, lr=0.01, weight_decay=0.01, max_grad_norm=None, bias_correction=False
            ),
        },
    }


def measure(replica, steps: int) -> list[dict]:
    """Runs on the replica; one row for each optimizer and library."""
    import timm

    from xlatrain.xla.capture import CapturedStep
    from xlatrain.xla.transfer import to_device

    model = timm.create_model("efficientnet_b2")
    names, shapes = zip(*((n, p.shape) for n, p in model.named_parameters()), strict=True)
    rows = []
    for optimizer, libraries in contenders().items():
        running = {}
        for library, what in libraries.items():
            step, carry, inputs = (ours if library == "xlatrain" else theirs)(what, names, shapes, replica)
            captured = CapturedStep(step, replica, f"{library} {optimizer}")
            running[library] = [captured, to_device(carry, replica.device), to_device(inputs, replica.device), []]
        for _ in range(steps + 1):
            for entry in running.values():
                captured, carry, inputs, times = entry
                started = time.perf_counter()
                entry[1], _ = captured(carry, inputs)
                replica.wait()
                times.append(1e3 * (time.perf_counter() - started))
        for library, (captured, _, _, times) in running.items():
            row = {
                "optimizer": optimizer,
                "library": library,
                "compile_s": captured.capture_seconds,
                "update_ms": statistics.median(times[1:]),
            }
            rows.append(row)
            print(
                f"{optimizer:10} {library:8} compile {row['compile_s']:7.2f} s   update {row['update_ms']:7.1f} ms",
                flush=True,
            )
    return rows


def main() -> None:
    from xlatrain.xla.launch import launch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = launch("optimizers:measure", arguments.steps, replicas=1)
    for optimizer in contenders():
        mine, *others = (r for r in rows if r["optimizer"] == optimizer)
        for other in others:
            print(
                f"{optimizer:10} {other['library']} / xlatrain: compile {other['compile_s'] / mine['compile_s']:.1f}, "
                f"update {other['update_ms'] / mine['update_ms']:.2f}"
            )
    if arguments.json:
        write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
