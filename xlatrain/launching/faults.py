"""What is wrong with a launch, found before gcloud is called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from xlatrain.config.choices import CONFIG_DIR
from xlatrain.config.schema import Config
from xlatrain.errors import Fault
from xlatrain.launching.slice import slice_of
from xlatrain.preflight.contradictions import find_contradictions
from xlatrain.preflight.values import folder_faults, value_faults

SCRIPT = Path(__file__).resolve().parent.parent.parent / "launch" / "tpu_vm.sh"
_NAME = r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"  # of Google Cloud's resources, RFC 1035
_ZONE = r"[a-z]+(?:-[a-z]+)+\d+-[a-z]"
_PROJECT = r"(?:[a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]"
_TYPED = ("v2", "v3", "v4")  # what gcloud's --type takes, SDK 528
_LEAST_HOURS = 1 / 6  # of machines, below which a run hardly begins


def launch_faults(config: Config, overrides: Sequence[str], until_done: bool) -> list[Fault]:
    """Of all verbs. until_done: machines come and go."""
    return [*_of_names(config), *_of_cluster(config), *_of_limits(config), *_of_run(config, overrides, until_done)]


def place_faults(config: Config) -> list[Fault]:
    """Of a verb for machines that are there already: which they are."""
    return list(_of_names(config))


def _of_names(config: Config) -> Iterator[Fault]:
    launch = config.launch
    name = launch.name or config.run.name
    yield from checkout_faults(SCRIPT, "machines are launched")
    if not name:
        yield Fault("launch.name", "the machines have no name", "give launch.name=NAME")
    elif not re.fullmatch(_NAME, name):
        problem = f"{name!r} is no name for machines of Google Cloud"
        yield Fault("launch.name", problem, "take up to 63 small letters, digits and -, a letter first: launch.name=b2")
    if launch.zone is None:
        yield Fault("launch.zone", "is open", "give the zone that has the machines: launch.zone=us-central2-b")
    elif not re.fullmatch(_ZONE, launch.zone):
        yield Fault("launch.zone", f"{launch.zone!r} is no zone", "write it as in us-central2-b")
    if launch.project is not None and not re.fullmatch(_PROJECT, launch.project):
        yield Fault("launch.project", f"{launch.project!r} is no project", "give its ID: gcloud projects list")


def _of_cluster(config: Config) -> Iterator[Fault]:
    launch, cluster, chip = config.launch, config.cluster, config.cluster.chip
    if cluster.platform != "tpu":
        if not launch.stand_in:
            problem = f"cluster={cluster.name} is no TPU"
            cure = "take one, as cluster=tpu_v4_32; launch.stand_in=true rehearses"
            yield Fault("cluster", problem, cure)
        elif (cluster.hosts or 1) > 1 and config.engine.runtime != "jax":
            yield Fault("engine.runtime", "several machines of CPUs are joined by jax", "take engine.runtime=jax")
        return
    if re.match(r"tpu7|v7", chip.name):
        problem = (
            f"{chip.name} is not among the TPU VMs of this interface: Google has it on Compute Engine and GKE only"
        )
        yield Fault("cluster", problem, "take a slice up to v6e, or GKE")
    elif chip.runtime_version is None:
        problem = "is open: what is to be put on the machines is not known"
        yield Fault("cluster.chip.runtime_version", problem, "see https://cloud.google.com/tpu/docs/runtimes")
    if not cluster.accelerator_type:
        yield Fault("cluster.accelerator_type", "is open", "name the slice, as in v4-32")
    if launch.by_topology and chip.name not in _TYPED:
        problem = f"gcloud takes a topology for {', '.join(_TYPED)} only, and this is {chip.name}"
        yield Fault("launch.by_topology", problem, "leave it out")


def _of_limits(config: Config) -> Iterator[Fault]:
    launch, chip = config.launch, config.cluster.chip
    known = launch.stand_in if config.cluster.platform != "tpu" else chip is not None and config.cluster.topology
    if launch.max_usd is None or not known:
        return
    rate, which = slice_of(config).usd_per_hour, "spot" if launch.capacity == "spot" else "on_demand"
    if rate is None:
        cure = f"give cluster.chip.price_{which}, or leave the limit out"
        yield Fault("launch.max_usd", f"the {which} price of {chip.name} is not known", cure)
    elif 0 <= launch.max_usd < rate * _LEAST_HOURS:  # below 0 is said of the option
        problem = f"{launch.max_usd:g} USD buy {60 * launch.max_usd / rate:.1f} minutes of {rate:,.2f} USD an hour"
        yield Fault("launch.max_usd", problem, f"take {rate * _LEAST_HOURS:,.2f} or more")


def _of_run(config: Config, overrides: Sequence[str], until_done: bool) -> Iterator[Fault]:
    launch, folder = config.launch, config.launch.folder
    if until_done and folder is None and config.checkpoint.folder is None:
        problem = "is open: checkpoints would go with the machine, and the next one would begin anew"
        yield Fault("launch.folder", problem, "name a bucket: launch.folder=gs://BUCKET/runs")
    elif until_done and folder is None:
        problem = "is open: all that the run writes beside its checkpoints would go with the machine"
        yield Fault("launch.folder", problem, f"take launch.folder={config.checkpoint.folder}")
    elif folder is not None and folder.startswith(("http://", "https://")):
        yield Fault("launch.folder", f"{folder} cannot be written to", "name a bucket: launch.folder=gs://BUCKET/runs")
    elif folder is not None and "://" not in folder and not Path(folder).is_absolute():
        problem = f"{folder} is a folder of each machine's own"
        cure = "name a bucket, gs://BUCKET/runs, or the whole path of a folder that all machines share"
        yield Fault("launch.folder", problem, cure)
    elif folder is not None and folder.endswith("://"):
        yield Fault("launch.folder", f"{folder} names no bucket", "name one: launch.folder=gs://BUCKET/runs")
    if until_done and config.run.resume == "never":
        yield Fault("run.resume", "never: each new machine would begin anew", "leave it out")
    own = [key for key in ("model", "data", "optimizer") if getattr(getattr(config, key), "_target_", None)]
    if launch.python is None and own:
        what = ", ".join(f"{key}._target_" for key in own)
        problem = "is code that the machines do not have: they are given xlatrain alone"
        yield Fault(what, problem, "launch.python=... names an interpreter there that has it")
    yield from own_weights_faults(config, "machines")
    yield from own_folder_faults(overrides, "machines")


def option_faults(config: Config) -> list[Fault]:
    """Of the run's options, as far as they show without its data."""
    return [*value_faults(config), *folder_faults(config), *find_contradictions(config)]


def checkout_faults(file: Path, what: str) -> Iterator[Fault]:
    """That a file of launch/ is not there. what: is done from a checkout."""
    if not file.exists():
        cure = "run it from a clone of xlatrain: pip install --editable ."
        yield Fault("launch", f"there is no {file}: {what} from a checkout", cure)


def own_weights_faults(config: Config, whose: str) -> Iterator[Fault]:
    """That a run is to start from a file that those who run it do not have. whose: pods or machines. Whole paths are
    theirs: of a disk that they share, or of their image."""
    weights = config.weights
    if not isinstance(weights, str) or "://" in weights or Path(weights).is_absolute():
        return
    problem = f"{weights} is a path of this computer, not of the {whose}, which are given xlatrain alone"
    cure = "copy the file to a bucket: weights=gs://BUCKET/NAME.safetensors; or give a whole path that they have"
    yield Fault("weights", problem, cure)


def own_folder_faults(overrides: Sequence[str], whose: str) -> Iterator[Fault]:
    """That choices come of a folder that those who run it do not have. whose: pods or machines."""
    if folders := [word for word in overrides if word.startswith(CONFIG_DIR)]:
        problem = f"{folders[0].removeprefix(CONFIG_DIR)} is a folder of this computer, not of the {whose}"
        yield Fault("--config-dir", problem, "write its options out: xlatrain train --cfg job shows them")
