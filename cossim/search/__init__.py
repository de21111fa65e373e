"""Search over rows: topk, pairs_above, duplicate_groups, Index, in memory, in files and over Dask arrays."""
