"""`xlatrain shards`: writes, indexes, checks and describes data sets of tar shards."""
