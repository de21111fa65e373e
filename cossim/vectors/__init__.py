"""The functions over vectors: CosineSimilarity, gradients, explain."""
