"""What tests run on replicas: functions of (replica, ...), named to `launch`. Each returns plain values to check."""

from __future__ import annotations

import os
import signal

import torch
import torch.nn.functional as F
from torch import nn

from tests.nets import Mobile
from xlatrain.errors import CaptureError
from xlatrain.models.batch_norm import GroupedBatchNorm, convert_batch_norm
from xlatrain.models.bn_groups import replica_groups
from xlatrain.models.folding.choose import choose_folds
from xlatrain.models.folding.fold import fold_layers
from xlatrain.xla import watch
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.collectives import all_reduce, mean_over_replicas
from xlatrain.xla.convolution import Geometry, convolve, kernel_gradient
from xlatrain.xla.replica import PROCESS_LOCK, Replica
from xlatrain.xla.transfer import to_device


def gather(replica: Replica, value):
    """What each replica says, by ordinal; the same list on all."""
    said = replica.shared("said", dict)
    said[replica.ordinal] = value
    replica.barrier()
    everything = [said[i] for i in range(replica.world_size)]
    replica.barrier()
    return everything


def noisy_step(carry, inputs):
    """A step with everything in it: random numbers, a collective, a matrix product, an update."""
    mask = (torch.rand_like(inputs["x"]) < 0.5).float()
    weight = carry["weight"].clone().requires_grad_()
    loss = ((inputs["x"] * mask) @ weight).square().mean()
    (grad,) = torch.autograd.grad(loss, [weight])
    with torch.no_grad():
        new = {"weight": carry["weight"] - inputs["rate"] * mean_over_replicas(grad), "rng": carry["rng"]}
        return new, {"loss": loss.detach().reshape(1), "mask": mask}


def run_capture(replica: Replica) -> dict:
    """Runs `noisy_step` replayed and traced; with one batch shape, then another."""
    said: list[str] = []
    traces = replica.shared("traces", list)  # of all replicas

    def run(replay: bool, shapes=(4, 4, 4, 4, 4)):
        def counted(carry, inputs):
            traces.append((replay, len(set(shapes))))
            return noisy_step(carry, inputs)

        carry = to_device(
            {"weight": torch.linspace(-1, 1, 15).reshape(5, 3), "rng": torch.tensor(77 + 1000 * replica.ordinal)},
            replica.device,
        )
        step = CapturedStep(counted, replica, f"step replay={replay} {shapes}", replay, said.append)
        losses, masks = [], []
        for i, rows in enumerate(shapes):
            x = torch.arange(rows * 5.0).reshape(rows, 5) / 10 + replica.ordinal
            carry, outputs = step(carry, to_device({"x": x, "rate": torch.tensor([float(i % 3) / 2])}, replica.device))
            losses.append(outputs["loss"].cpu().item())
            masks.append(outputs["mask"].cpu())
        return {
            "captures": step.captures,
            "losses": losses,
            "masks": masks,
            "weight": carry["weight"].cpu(),
            "rng": int(carry["rng"].cpu()),
        }

    result = {
        "replayed": run(True),
        "traced": run(False),
        "two shapes": run(True, (4, 6, 4, 6, 4)),
        "said": said,
        "compiles": {replay: watch.compiles(f"step replay={replay} (4, 4, 4, 4, 4)") for replay in (True, False)},
    }
    result["traces"] = [traces.count(which) for which in ((True, 1), (False, 1), (True, 2))]
    result["compiles"]["two shapes"] = watch.compiles("step replay=True (4, 6, 4, 6, 4)")
    return {"by_replica": gather(replica, result)}


def reads_host(carry, inputs):
    return {"a": carry["a"] * 2}, {"b": inputs["x"] * float(inputs["x"].sum())}


def branches(carry, inputs):
    return {"a": carry["a"] * (2 if inputs["x"].sum() > 0 else 3)}, {}


def falls_back(carry, inputs):
    return {"a": carry["a"] + torch.special.i1e(inputs["x"]).sum()}, {}


def changes_inputs(carry, inputs):
    inputs["x"].add_(1)
    return {"a": carry["a"] + inputs["x"].sum()}, {}


def changes_carry(carry, inputs):
    return {"a": carry["a"].repeat(2)}, {}


def loses_carry(carry, inputs):
    return {}, {"b": carry["a"] * 2}


def draws(carry, inputs):
    return {"a": carry["a"] + torch.rand(2, device=carry["a"].device)}, {}


def run_errors(replica: Replica) -> dict:
    """The message of each way to break the rules of a captured step."""
    outside = to_device({"t": torch.ones(2)}, replica.device)["t"]

    def captures(carry, inputs):
        return {"a": carry["a"] + outside}, {}

    messages = {}
    for function in (reads_host, branches, falls_back, changes_inputs, changes_carry, loses_carry, draws, captures):
        carry = to_device({"a": torch.ones(2)}, replica.device)
        try:
            CapturedStep(function, replica, function.__name__)(carry, to_device({"x": torch.ones(3)}, replica.device))
            messages[function.__name__] = None
        except CaptureError as error:
            messages[function.__name__] = str(error)
        replica.barrier()
    return messages


def run_batch_norm(replica: Replica, sizes: list[int], images: int, mean: float, bf16: bool, steps: int) -> list[dict]:
    """GroupedBatchNorm over groups of each size, forward and backward, on slices of one batch: what each replica
    has after some steps, by group size. Gradients of weight and bias are those of the replica's own share."""
    results = {}
    x, weight, bias, target = batch_norm_case(mean, images)
    share = len(x) // replica.world_size
    mine = slice(replica.ordinal * share, (replica.ordinal + 1) * share)
    dtype = torch.bfloat16 if bf16 else torch.float32
    for size in sizes:
        norm = GroupedBatchNorm(nn.BatchNorm2d(x.shape[1]), replica_groups(replica.world_size, size), size)

        def step(carry, inputs, norm=norm):
            x = inputs["x"].clone().requires_grad_()
            weight, bias = (inputs[n].clone().requires_grad_() for n in ("weight", "bias"))
            buffers = {n: t.clone() for n, t in carry.items()}
            y = torch.func.functional_call(norm, {"weight": weight, "bias": bias, **buffers}, (x,))
            dx, dw, db = torch.autograd.grad((y.float() * inputs["target"]).sum(), [x, weight, bias])
            return buffers, {"y": y.detach().float(), "dx": dx.float(), "dw": dw, "db": db}

        carry = to_device(
            {"running_mean": torch.zeros(x.shape[1]), "running_var": torch.ones(x.shape[1])}, replica.device
        )
        captured = CapturedStep(step, replica, f"batch norm {size}")
        inputs = {"x": x[mine].to(dtype), "weight": weight, "bias": bias, "target": target[mine]}
        inputs = to_device(inputs, replica.device)
        for _ in range(steps):
            carry, outputs = captured(carry, inputs)
        results[size] = {k: t.cpu() for k, t in {**carry, **outputs}.items()}
    return gather(replica, results)


def batch_norm_case(mean: float, images: int):
    """One batch for batch norm: x, weight, bias, and what the output is multiplied with."""
    random = torch.Generator().manual_seed(5)
    x = torch.randn(images, 3, 4, 4, generator=random) * torch.tensor([1.0, 0.5, 3.0]).view(1, 3, 1, 1) + mean
    return x, torch.tensor([1.0, -0.5, 2.0]), torch.tensor([0.1, 0.0, -1.0]), torch.randn(x.shape, generator=random)


def plain_batch_norm(mean: float, images: int, rows: slice, bf16: bool, steps: int) -> dict:
    """torch's own batch norm, in float64, on some rows of that batch: outputs and gradients of the last step, running
    statistics."""
    x, weight, bias, target = batch_norm_case(mean, images)
    x = x.to(torch.bfloat16) if bf16 else x
    x, weight, bias, target = x[rows].double(), weight.double(), bias.double(), target[rows].double()
    running_mean, running_var = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for _ in range(steps):
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
        y = F.batch_norm(leaves[0], running_mean, running_var, leaves[1], leaves[2], True, 0.1, 1e-5)
        dx, dw, db = torch.autograd.grad((y * target).sum(), leaves)
    return {"y": y.detach(), "dx": dx, "dw": dw, "db": db, "running_mean": running_mean, "running_var": running_var}


def raise_on(replica: Replica, ordinal: int) -> None:
    """One replica raises while the others wait for it in a collective."""
    step = CapturedStep(lambda carry, inputs: ({"a": all_reduce(carry["a"])}, {}), replica, "waiting step")
    carry = to_device({"a": torch.ones(2)}, replica.device)
    for i in range(10):
        if i == 7 and replica.ordinal == ordinal:
            raise RuntimeError("this replica is the one that fails")
        carry, _ = step(carry, {})
        replica.wait()


def run_combination_steps(replica: Replica, runs: dict) -> dict:
    """Three steps of each run's train step, replayed and then traced: losses, and what was compiled."""
    from xlatrain.data.order import Position
    from xlatrain.engine.build import TrainProgram, build_phase_model, place

    results = {}
    for name, run in runs.items():
        model = replica.shared(name, lambda run=run: build_phase_model(run, run.phases[0], replica))
        program = TrainProgram(run, model)
        tables = to_device(program.tables(), replica.device)
        losses, compiles = {}, {}
        for replay in (True, False):
            label = f"{name} replay={replay}"
            step = CapturedStep(program.step, replica, label, replay)
            state = to_device(program.carry(0), replica.device)
            batches = run.dataset.train.train_batches(place(replica), run.config.train.seed, run.phases, Position())
            losses[replay] = []
            for _, batch in zip(range(3), batches, strict=False):
                state, outputs = step(state, {**to_device(batch, replica.device), **tables})
                losses[replay].append(outputs["metrics"].cpu().tolist()[0])
            compiles[replay] = watch.compiles(label)
        results[name] = (losses, compiles)
    return results


def run_steps(replica: Replica, runs: dict) -> dict:
    """Train some steps of each run, {name: (run, steps)}, and evaluate: losses, the evaluation, and what was compiled
    in this process."""
    from xlatrain.engine.build import TrainProgram, build_phase_model, place
    from xlatrain.engine.contract import TrainMetrics, TrainState
    from xlatrain.engine.evaluate import Evaluator

    results = {}
    for name, (run, steps) in runs.items():
        model = replica.shared(name, lambda run=run: build_phase_model(run, run.phases[0], replica))
        program = TrainProgram(run, model)
        state, tables = replica.to_device(program.carry(replica.ordinal)), replica.to_device(program.tables())
        step = CapturedStep(program.step, replica, f"{name} step")
        batches = replica.shared(f"{name} batches", lambda run=run, n=steps: first_batches(run, place(replica), n))
        losses = []
        for batch in batches:
            mine = {k: t.chunk(replica.local_count)[replica.local_ordinal] for k, t in batch.items()}
            state, outputs = step(state, {**replica.to_device(mine), **tables})
            losses.append(TrainMetrics.read(replica.to_host(outputs))["loss"])
        evaluation = Evaluator(run.evaluation, model, replica, lambda text: None)(TrainState.of(state).weights)
        counts = replica.counts(f"{name} step", "eval step")
        results[name] = {"losses": losses, "eval": evaluation.as_dict(), "compiles": counts.compiles}
    return results


def first_batches(run, place, count: int) -> list:
    """The first batches that a process reads, copied: the memory of what is read is used again."""
    from xlatrain.data.order import Position

    batches = run.dataset.train.train_batches(place, run.config.train.seed, run.phases, Position())
    return [{k: t.clone() for k, t in batch.items()} for _, batch in zip(range(count), batches, strict=False)]


def fail_by(replica: Replica, how: str) -> None:
    """One replica of the second process fails while those of the first wait for it in a collective: "raise", "kill",
    or "stop", which hangs its process."""
    step = CapturedStep(lambda carry, inputs: ({"a": all_reduce(carry["a"])}, {}), replica, "waiting step")
    carry = replica.to_device({"a": torch.ones(2)})
    for i in range(10):
        if i == 7 and replica.process == 1 and replica.local_ordinal == 1:
            if how == "raise":
                raise RuntimeError("this replica is the one that fails")
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[how])
        carry, _ = step(carry, {})
        replica.wait()


def compile_steps(replica: Replica, names: tuple[str, ...]) -> dict[str, int]:
    """What was compiled of steps that multiply by the number that is their name, each of them run when it is named."""
    for name in names:
        step = CapturedStep(lambda carry, inputs, by=int(name): ({"a": carry["a"] * by}, {}), replica, f"step {name}")
        carry, _ = step(replica.to_device({"a": torch.ones(2)}), {})
        assert carry["a"].tolist() == [int(name)] * 2
    counts = replica.counts(*(f"step {name}" for name in names)).compiles
    return {name: counts[f"step {name}"] for name in dict.fromkeys(names)}


def run_donation(replica: Replica) -> dict:
    """Where the carry of a few steps of JAX's runtime lies, and whether the one before is gone."""
    step = CapturedStep(lambda carry, inputs: ({"a": carry["a"] * 2}, {}), replica, "doubling step")
    carry, places, gone = replica.to_device({"a": torch.ones(1000)}), [], []
    for _ in range(4):
        old = carry["a"].array
        carry, _ = step(carry, {})
        replica.wait()
        places.append(carry["a"].array.unsafe_buffer_pointer())
        gone.append(old.is_deleted())
    return {"places": places, "gone": gone, "a": carry["a"].tolist()[:2]}


def run_finetune_steps(replica: Replica, runs: dict) -> dict:
    """Of each run the state before its first three steps and after each, on the host, and how often it compiled."""
    from xlatrain.engine.build import TrainProgram, build_phase_model

    found = {}
    for name, run in runs.items():
        phase = run.phases[0]
        program = TrainProgram(run, build_phase_model(run, phase, replica))
        step = CapturedStep(program.step, replica, f"train step {name}")
        state, tables = replica.to_device(program.carry(0)), replica.to_device(program.tables())
        states = [{key: tensor.clone() for key, tensor in replica.to_host(state).items()}]
        generator = torch.Generator().manual_seed(0)
        blank = program.blank_batch(phase)
        images = torch.randint(0, 256, blank["images"].shape, generator=generator, dtype=torch.uint8)
        labels = torch.arange(len(images)) % 10
        batch = replica.to_device({**blank, "images": images, "labels": labels})
        for _ in range(3):
            state, _ = step(state, {**batch, **tables})
            states.append({key: tensor.clone() for key, tensor in replica.to_host(state).items()})
        found[name] = states, step.captures
    return found


def convolution_case(case: tuple, dtype: torch.dtype):
    """A convolution (in, out, kernel, stride, padding, dilation, groups, bias, (height, width)), its input, and what
    its output is multiplied with."""
    *layer, size = case
    inside, outside, kernel, stride, padding, dilation, groups, bias = layer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        conv = nn.Conv2d(inside, outside, kernel, stride, padding, dilation, groups, bias)
        x = torch.randn(2, inside, *size)
        return conv.to(dtype), x.to(dtype), torch.randn(conv(x.to(dtype)).shape).to(dtype)


def plain_convolution(case: tuple) -> list[torch.Tensor]:
    """torch's own, in float64: output, gradients of input and weight."""
    conv, x, target = convolution_case(case, torch.float64)
    x = x.requires_grad_()
    y = conv(x)
    return [y.detach(), *torch.autograd.grad((y * target).sum(), [x, conv.weight])]


def run_channels_last(replica: Replica, cases: list[tuple]) -> dict:
    """ChannelsLastConv2d of each case on the device: the same three, in float64 and under bf16 autocast."""
    from xlatrain.models.channels_last.layers import ChannelsLastConv2d

    def step(carry, inputs, bf16: bool):
        outputs = {}
        for case in cases:
            layer = ChannelsLastConv2d(convolution_case(case, torch.float64)[0], first=True)
            mine = {n: inputs[f"{n} {case}"].clone().requires_grad_() for n in ("x", "weight", "bias")}
            named = {"weight": mine["weight"]} | ({"bias": mine["bias"]} if case[7] else {})
            with torch.autocast("xla", torch.bfloat16, enabled=bf16):
                y = torch.func.functional_call(layer, named, (mine["x"],))
            gradients = torch.autograd.grad((y * inputs[f"target {case}"]).sum(), [mine["x"], mine["weight"]])
            outputs |= {f"{i} {case}": t.detach() for i, t in enumerate((y, *gradients))}
        return {"a": carry["a"] + 1}, outputs

    found = {}
    for name, dtype in (("float64", torch.float64), ("bf16", torch.float32)):
        inputs = {}
        for case in cases:
            conv, x, target = convolution_case(case, dtype)
            bias = torch.zeros(1, dtype=dtype) if conv.bias is None else conv.bias
            inputs |= {f"x {case}": x, f"weight {case}": conv.weight, f"bias {case}": bias, f"target {case}": target}
        inputs = to_device({n: t.detach() for n, t in inputs.items()}, replica.device)
        carry = to_device({"a": torch.zeros(1)}, replica.device)
        captured = CapturedStep(lambda c, i, bf16=name == "bf16": step(c, i, bf16), replica, name)
        _, outputs = captured(carry, inputs)
        found[name] = {case: [outputs[f"{i} {case}"].cpu() for i in range(3)] for case in cases}
    return found


def run_folded(replica: Replica, size: int, group: int, steps: int) -> dict:
    """Steps of a small EfficientNet as it is, and folded, on the same images: what each replica has after them."""
    return gather(replica, {folded: _mobile_steps(replica, size, group, steps, folded) for folded in (False, True)})


def _mobile_steps(replica: Replica, size: int, group: int, steps: int, folded: bool) -> dict:
    with PROCESS_LOCK:
        torch.manual_seed(3)
        model = Mobile(5)
    convert_batch_norm(model, replica_groups(replica.world_size, group), group)
    if folded:
        fold_layers(model, choose_folds(model, size, always=True), size)
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    model.train()

    def step(carry, inputs):
        leaves = {n: carry[n].clone().requires_grad_() for n in parameters}
        kept = {n: carry[n].clone() for n in buffers}
        logits = torch.func.functional_call(model, {**leaves, **kept}, (inputs["x"],))
        gradients = torch.autograd.grad(logits.square().mean(), list(leaves.values()))
        means = [all_reduce(g, scale=1.0 / replica.world_size) for g in gradients]
        moved = {n: (carry[n] - 0.1 * g).detach() for n, g in zip(leaves, means, strict=True)}
        return {**moved, **kept}, {"logits": logits.detach()}

    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(replica.ordinal))
    carry = {n: t.detach().clone() for n, t in {**parameters, **buffers}.items() if t.is_floating_point()}
    buffers = {n: t for n, t in buffers.items() if t.is_floating_point()}
    carry, inputs = to_device(carry, replica.device), to_device({"x": images}, replica.device)
    captured = CapturedStep(step, replica, f"folded={folded}")
    for _ in range(steps):
        carry, outputs = captured(carry, inputs)
    return {name: tensor.cpu() for name, tensor in {**carry, **outputs}.items()}


def run_convolutions(replica: Replica) -> dict:
    """Convolutions of xla/convolution.py on the device and on the CPU: steps, dilation, padding that cuts off, and
    groups."""
    random, cases = torch.Generator().manual_seed(1), {}
    geometries = {
        "plain": Geometry(),
        "stepped": Geometry((2, 1), (1, 1), ((1, 0), (2, -1))),
        "dilated": Geometry((1, 1), (2, 3), ((1, -1), (0, 2))),
        "spread": Geometry((2, 1), (1, 1), ((1, 1), (2, 1)), (2, 3)),
    }
    for name, geometry in geometries.items():
        for groups in ((), (1,), (3,)):
            x = torch.randn(2, 5, 4, *groups, 3, generator=random)
            kernel = torch.randn(2, 3, *groups, 3, 4, generator=random)
            y = convolve(x, kernel, geometry)
            g = torch.randn(y.shape, generator=random)
            cases[f"{name}, {groups}"] = (geometry, x, kernel, g, y, kernel_gradient(x, g, geometry))
    results = {}
    for name, (geometry, *tensors, y, back) in cases.items():
        x, kernel, g = to_device(dict(enumerate(tensors)), replica.device).values()
        results[name] = convolve(x, kernel, geometry).cpu(), y
        results[f"{name}, kernel"] = kernel_gradient(x, g, geometry).cpu(), back
    return results
