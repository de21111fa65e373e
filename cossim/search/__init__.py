"""Search over rows: topk, pairs_above, duplicate_groups and Index, for arrays in memory, in files and of Dask."""
