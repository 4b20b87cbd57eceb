"""Training on shards of a server is training on local ones, whatever happens to its connections."""

import random

import pytest

from tests.shards import split, write
from xlatrain.config.schema import AugmentConfig, ShardsConfig
from xlatrain.data.order import Position
from xlatrain.data.phase import Phase, Place
from xlatrain.data.shard_format import read_index
from xlatrain.data.sharded import ShardedSplit
from xlatrain.data.storage.retry import retries_so_far


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_a_flaky_source_sees_every_image_once_through_hundreds_of_breaks(server, tmp_path, workers):
    """Connections break after 1 to 1,500 bytes: the epoch is whole, and each break is counted, also in workers."""
    write(tmp_path, count=170, per_shard=40)
    for path in tmp_path.iterdir():
        server.put(f"data/{path.name}", path.read_bytes())
    draw, before = random.Random(3), retries_so_far()
    options = {"retry_wait": 0.0, "read_ahead_mb": 0.1, "workers": workers, "shuffle_window": 32, "retries": 20}
    config = ShardsConfig(root=server.url("data"), image_size=8, eval_padding=0, **options)
    remote_split = ShardedSplit(read_index(server.url("data")), config, AugmentConfig(name="none"), 10)
    server.cut = lambda length: k if (k := draw.randint(1, 1_500)) < length else None
    batches = remote_split.train_batches(Place(0, 1), 0, (Phase(0, 17, 8),), Position())
    seen = [int(i[0, 0, 0]) for _ in range(10) for i in next(batches)["images"]]
    server.cut = lambda length: None
    for batch in remote_split.eval_batches(Place(0, 1), 34):
        assert batch["mask"].all()
    batches.close()
    local = split(tmp_path).eval_batches(Place(0, 1), 170)
    assert sorted(seen) == sorted(next(local)["images"][:, 0, 0, 0].tolist())
    assert server.drops > 200
    assert retries_so_far() - before >= 200
