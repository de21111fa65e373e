"""Functions of vectors along a dimension: CosineSimilarity, gradients, explain."""
