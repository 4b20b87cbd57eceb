"""What a TPU VM is told of its slice: by Google Cloud's metadata server, or by variables instead."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterator

from xlatrain.config.schema import Config
from xlatrain.doctor.devices import tpu_chips
from xlatrain.doctor.finding import FAILED, OK, UNKNOWN, Finding, Machine

_SECONDS = 2.0
_MOST = 1 << 20  # bytes; it is a page of text
# What torch_xla 2.9.0 reads in place of the server (_internal/tpu.py), each by the first name that is set.
_INSTEAD = (
    ("TPU_ACCELERATOR_TYPE",),
    ("TPU_PROCESS_BOUNDS", "TPU_HOST_BOUNDS"),
    ("TPU_CHIPS_PER_PROCESS_BOUNDS", "TPU_CHIPS_PER_HOST_BOUNDS"),
    ("CLOUD_TPU_TASK_ID", "TPU_WORKER_ID"),
    ("TPU_WORKER_HOSTNAMES",),
)


def skips_server(machine: Machine) -> bool:
    """Whether torch_xla is told to read variables instead: any text but an empty one tells it, "0" too."""
    return bool(machine.variables.get("TPU_SKIP_MDS_QUERY"))


def check_metadata(machine: Machine, config: Config) -> Iterator[Finding]:
    """Whether torch_xla will know its slice, and whether it is the one of the configuration. `import torch_xla` asks on
    a machine with chips, so that it fails without."""
    if not tpu_chips(machine):
        yield Finding(UNKNOWN, "not asked: there is no TPU here")
        return
    if skips_server(machine):
        if absent := [" or ".join(names) for names in _INSTEAD if not any(machine.variables.get(n) for n in names)]:
            text = f"TPU_SKIP_MDS_QUERY is set, and not what is then read instead: {', '.join(absent)}"
            yield Finding(FAILED, text, "unset TPU_SKIP_MDS_QUERY")
        else:
            yield from _slice(machine.variables["TPU_ACCELERATOR_TYPE"], "TPU_ACCELERATOR_TYPE", config)
        return
    url = f"{machine.metadata}/computeMetadata/v1/instance/attributes/tpu-env"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            text = answer.read(_MOST).decode(errors="replace")
    except OSError as error:
        problem = getattr(error, "reason", error)
        variables = " ".join(f"{names[0]}=..." for names in _INSTEAD)
        cure = f"export TPU_SKIP_MDS_QUERY=1 {variables}"
        yield Finding(FAILED, f"{url} does not answer ({problem}), and torch_xla asks it when imported", cure)
        return
    kind = re.search(r"^ACCELERATOR_TYPE:\s*['\"]?([^'\"\s]+)", text, re.M)
    if kind is None:
        cure = "gcloud compute tpus tpu-vm describe NAME --zone ZONE"
        yield Finding(FAILED, f"{url} names no ACCELERATOR_TYPE", cure)
    else:
        yield from _slice(kind[1], "the metadata server", config)


def _slice(kind: str, source: str, config: Config) -> Iterator[Finding]:
    wanted = config.cluster.accelerator_type
    if config.cluster.platform == "tpu" and wanted and wanted != kind:
        cure = f"xlatrain train cluster=tpu_{kind.replace('litepod', 'e').replace('-', '_')} ..."
        yield Finding(FAILED, f"{source} says {kind}; cluster={config.cluster.name} is for {wanted}", cure)
    else:
        yield Finding(OK, f"{kind}, says {source}")
