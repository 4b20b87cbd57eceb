"""Runs of 1 to 1,024 replicas on 1 to 128 hosts, without any of them: what each process works out for itself of who
reads what, who is with whom and who writes, put together over all; and what starting costs, which may not grow with
the hosts. Ordinals lie on hosts in any order, as those of torch_xla may."""

import itertools
import pickle
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from tests.data.orders import rows_of
from xlatrain.data import dataset, order
from xlatrain.data.dataset import open_dataset
from xlatrain.data.order import Leg
from xlatrain.data.phase import Phase, Place
from xlatrain.data.shard_format import write_shards
from xlatrain.data.sources import TrainSource
from xlatrain.engine.describe import describe_statistics
from xlatrain.models.bn_groups import RULES, group_size, replica_groups
from xlatrain.preflight.check import check
from xlatrain.xla import arrival, torch_xla_replica
from xlatrain.xla.jax_start import free_port
from xlatrain.xla.torch_xla_replica import TorchXlaReplica

LAYOUTS = [(1, 1), (1, 8), (4, 4), (64, 8), (128, 8)]  # hosts, replicas of each
of_layouts = pytest.mark.parametrize("threads", [1, 2, "host"], ids=["a process each", "two", "a process a host"])
of_hosts = pytest.mark.parametrize(("hosts", "on_host"), LAYOUTS, ids=[f"{h}x{r}" for h, r in LAYOUTS])


@dataclass
class Runtime:
    """What torch_xla says to one replica: its place in its process, and an ordinal that says nothing of it."""

    place: int
    threads: int
    process: int
    processes: int
    ordinal: int

    def addressable_runtime_device_count(self):
        return self.threads

    def world_size(self):
        return self.threads * self.processes

    def global_ordinal(self):
        return self.ordinal

    def process_index(self):
        return self.process

    def process_count(self):
        return self.processes


def replicas_of(hosts, on_host, threads, monkeypatch):
    """The replicas of a run, as each sees itself. threads: of a process. Their ordinals are shuffled over all hosts."""
    threads = on_host if threads == "host" else min(threads, on_host)
    processes = hosts * on_host // threads
    ordinals = list(range(hosts * on_host))
    random.Random(hosts).shuffle(ordinals)
    found = []
    for process, place in itertools.product(range(processes), range(threads)):
        runtime = Runtime(place, threads, process, processes, ordinals[process * threads + place])
        monkeypatch.setattr(torch_xla_replica, "xr", runtime)
        monkeypatch.setattr(torch_xla_replica.torch_xla, "device", lambda place=place: Device(place))
        found.append(torch_xla_replica.this_replica("tpu"))
    return found


@dataclass(frozen=True)
class Device:
    index: int


@pytest.mark.slow
@of_layouts
@of_hosts
def test_every_sample_is_read_once_in_equal_batches_and_one_replica_writes(hosts, on_host, threads, monkeypatch):
    """Three batches and a remainder, of shards of all sizes: what each replica is handed of what its process reads."""
    replicas = replicas_of(hosts, on_host, threads, monkeypatch)
    world = len(replicas)
    assert sorted(r.ordinal for r in replicas) == list(range(world))
    assert sum(r.is_first for r in replicas) == 1
    of_process = [replicas[i : i + replicas[0].local_count] for i in range(0, world, replicas[0].local_count)]
    for number, together in enumerate(of_process):  # one loader is cut into shares for all of them
        assert {r.process for r in together} == {number}
        assert [r.local_ordinal for r in together] == list(range(len(together)))
    batch, sizes = 2 * world, [world, 0, 3 * world, 1, 2 * world + 1]
    samples = sum(sizes)
    line, leg = order.epoch_line(sizes, 3, 1), Leg(order.streams_for(hosts), batch)
    places = {r.process: Place(r.process, r.processes) for r in replicas}
    rows = {n: rows_of(line, sizes, leg, place.rows(batch), 3, 1, 0, 16) for n, place in places.items()}
    read = [np.split(rows[r.process], r.local_count, axis=1)[r.local_ordinal] for r in replicas]
    assert {part.shape for part in read} == {(samples // batch, 2)}
    seen = np.concatenate([part.ravel() for part in read])
    assert len(np.unique(seen)) == len(seen) > samples - batch

    leaders = [r for r in replicas if r.local_ordinal == 0]
    runs = [order.eval_range(samples, 2 * r.local_count, r.process, r.processes) for r in leaders]
    assert len({batches for *_, batches in runs}) == 1
    assert sorted(n for first, last, _ in runs for n in range(first, last)) == list(range(samples))


@of_hosts
def test_groups_hold_each_replica_once_whatever_hosts_ordinals_lie_on(hosts, on_host):
    """Groups go by ordinals alone, so that all processes make the same of them: neighbours by number. Where the width
    of the torus in ordinals is known, large ones are boxes of it; no cluster of conf/ says that it is."""
    world = hosts * on_host
    sizes = {group_size(text, world, batch) for text in RULES for batch in (1, 16, 32)}
    for size, width in itertools.product(sizes, (None, 32)):
        if width and world % width:
            continue
        groups = replica_groups(world, size, width) or [list(range(world))]
        assert sorted(itertools.chain(*groups)) == list(range(world))
        assert {len(group) for group in groups} == {size}
        if not width or size <= 16:
            assert all(group == list(range(group[0], group[0] + size)) for group in groups)
        else:  # a box: no wider than two rows, or whole rows, so neighbours are near both ways
            assert all(len({m // width for m in group}) == max(2, size // width) for group in groups)


@pytest.mark.slow
def test_the_log_says_whether_a_group_is_known_to_be_near_itself():
    pod = ["cluster=tpu_v3_1024", "model.sync_bn_group=32", "train.global_batch=1024", "data=synthetic"]
    small = ["model=test_efficientnet", "train.duration=1step", "data.image_size=32"]
    unknown, known, none = (
        list(describe_statistics(check([*small, *more], starts=False)))
        for more in (pod, [*pod, "cluster.torus_width=32"], [])
    )
    assert unknown == [
        "batch norm statistics are those of groups of 32 replicas, neighbours by number; that these are neighbours on "
        "the torus is not known (cluster.torus_width)"
    ]
    assert "boxes of a torus whose rows hold 32" in known[0]
    assert none == []


@of_hosts
def test_a_process_reads_two_indexes_however_many_there_are(hosts, on_host, tmp_path, monkeypatch):
    """When a run is checked, by the parent process of each host; its replicas are handed what it found."""
    for split in ("train", "val"):
        samples = ((f"{i}", "png", b"x", i % 2) for i in range(16))
        write_shards(tmp_path / split, samples, ["a", "b"], samples_per_shard=4)
    read, whole = Counter(), dataset.read_index
    monkeypatch.setattr(dataset, "read_index", lambda root, *rest: (read.update([str(root)]), whole(root, *rest))[1])
    config = check(["data=shards", f"data.root={tmp_path}", "data.workers=0", "train.global_batch=8",
                    "data.image_size=32", "cluster.replicas=8"]).config  # fmt: skip
    assert set(read.values()) == {1}
    assert len(read) == 2
    read.clear()
    split = pickle.loads(pickle.dumps(open_dataset(config.data, config.augment))).train
    assert sum(read.values()) == 2
    monkeypatch.setattr(dataset, "read_index", None)
    last = Place(hosts * on_host - 1, hosts * on_host)
    source = TrainSource(split, last, 0, (Phase(0, 16, 32),), order.Position())
    assert next(source.shapes()).batch == 16 - 16 * last.process // last.processes  # some or no rows of what is there


@pytest.mark.parametrize("processes", [1, 4, 64])
def test_processes_that_meet_say_two_messages_each(processes, monkeypatch):
    """One to process 0 and one from it: 2 (n - 1) in all. Counted at the sockets, each process in a thread."""
    said = Counter()

    class Counted(arrival.socket.socket):
        def sendall(self, data, *rest):
            said["lines"] += data.count(b"\n")
            return super().sendall(data, *rest)

    monkeypatch.setattr(arrival.socket, "socket", Counted)
    address = f"127.0.0.1:{free_port()}"
    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(lambda n: arrival.meet(n, processes, address, 20), range(processes)))
    assert said["lines"] == 2 * (processes - 1)


def test_what_the_first_replica_says_is_sent_once():
    """agree() is one broadcast of all processes: a message of each, none to every other."""
    sent = []

    class Broadcast(TorchXlaReplica):
        def _broadcast(self, value):
            sent.append(self.ordinal)
            return "said"

    replicas = [Broadcast(n, 1024, 0, 1, n, 1024, None, "tpu") for n in range(1024)]
    assert {replica.agree(None) for replica in replicas} == {"said"}
    assert sent == list(range(1024))
