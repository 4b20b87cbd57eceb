"""From shards to host batches: who reads what, decoding, and the data sets that come along."""
