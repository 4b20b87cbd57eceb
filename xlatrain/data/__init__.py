"""From shards, or data of one's own, to host batches: who reads what, decoding, the data sets that come along."""
