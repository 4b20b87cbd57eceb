"""Options of what runs the steps and watches over them."""

from __future__ import annotations

from dataclasses import dataclass

from xlatrain.config.option import option


@dataclass
class EngineConfig:
    runtime: str | None = option(
        None,
        "what runs the compiled step: torch_xla, or jax (an extra), which has GPUs, joins processes on CPU too and "
        "keeps what it compiled for the next run; null = jax on GPU, else torch_xla",
        choices=("torch_xla", "jax"),
    )
    replay: bool = option(True, "replay the captured step; false traces it every time (debugging, same results)")
    in_flight: int | None = option(
        None, "steps handed to the device before waiting; null = 1 on CPU, else 2", low=1, may_change=True
    )
    compile_cache_gb: float | None = option(
        10.0,
        "jax: how much of what it compiled is kept, the last used; null = all",
        "GB",
        low=0.001,
        may_change=True,
    )
    save_hlo: bool = option(
        False, "write the train step's program to the run folder, as train_step.hlo.pb", may_change=True
    )
    profile: str | None = option(
        None,
        "STEP:COUNT, as in 20:3: what devices do in so many steps from that one on, counted from 1 as in the log, goes "
        "to profile/ of the run's folder, for TensorBoard's profiler or Perfetto, with the dearest ops by module; "
        "null = nothing does",
        may_change=True,
    )
    stall_after: float | None = option(
        300.0,
        "a run that for so long comes to no further step, or batch of an evaluation, hangs: it is ended, with the "
        "stacks of all threads in train.log; compiling and saving have limits of their own; null = never",
        "seconds",
        low=1,
        may_change=True,
    )
    strict: bool = option(
        False,
        "a compile or a transfer from the device that was not planned ends the run; false logs it, once",
        may_change=True,
    )
    fail_replica: int | None = option(None, "rehearse a failure: this replica fails ...", may_change=True)
    fail_step: int | None = option(None, "... before this step, counted from 0 ...", may_change=True)
    fail_how: str = option("raise", "... like this", choices=("raise", "hang"), may_change=True)
