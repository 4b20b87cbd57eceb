"""Where the first shard of a split lies, by its index, and nothing else of it: without what reads samples, whose
imports take seconds."""

from __future__ import annotations

import json

from xlatrain.data.storage.retry import ReadOptions
from xlatrain.data.storage.streams import check_url, expand_braces, join_url, read_all


def first_shard(root: str, split: str, options: ReadOptions) -> tuple[str, int | None]:
    """The url of the first shard and its size, where the index says it. Raises ConfigError for a url that nothing here
    opens, DataError or OSError for what cannot be read or is no index."""
    url = join_url(root, expand_braces(split)[0])
    path = url if url.endswith(".json") else join_url(url, "index.json")
    check_url(path)
    try:
        shard = json.loads(read_all(path, options))["shards"][0]
        return join_url(path.rpartition("/")[0] or ".", str(shard["name"])), shard.get("bytes")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise OSError(f"{path} is no index of shards: {type(error).__name__}: {error}") from None
