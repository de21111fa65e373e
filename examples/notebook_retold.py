"""A notebook on torch.nn.CosineSimilarity, cell by cell, with cossim instead of torch. It only needs NumPy and cossim.

`python -m cossim demo` does the same with real images and explains why the last two results differ.
"""

import numpy as np

import cossim
from cossim.simclr import Encoder

np.set_printoptions(precision=4, suppress=True)
rng = np.random.default_rng(69)


def randn(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


# One row each, so the norm of the whole array is the norm of its row.
c, d = randn(1, 3), randn(1, 3)
print(np.dot(c, d.T) / (np.linalg.norm(c) * np.linalg.norm(d)))
cos = cossim.CosineSimilarity(dim=1, eps=1e-6)
print(cos(c, d))

# Two rows each: each row has its own norm, dot product and similarity.
a = np.float32([[-1.4957, -1.9285, -0.2320], [-0.3472, -1.1279, 0.3151]])
b = np.float32([[-0.9709, 0.4931, -0.2877], [1.9940, 1.8288, -0.5981]])
for name, row_a, row_b in zip(("First", "Second"), a, b, strict=True):
    similarity = np.dot(row_a, row_b) / (np.linalg.norm(row_a) * np.linalg.norm(row_b))
    print(f"Cosine Sim of {name} Row: {similarity:.4f}")
print(cos(a, b))

# Encode two batches of images, as SimCLR does, and compare every embedding with every other.
a0, a1 = randn(32, 1, 28, 28), randn(32, 1, 28, 28)
model = Encoder(rng=0)
z = np.concatenate((model(a0), model(a1)))
a, b = z[None], z[:, None]  # in torch: z.unsqueeze(0), z.unsqueeze(1)
print(a.shape, b.shape)
cos = cossim.CosineSimilarity(dim=2)
matrix = cos(a, b)
print(matrix.shape)
print(matrix)

# The same by hand. x is the whole (64, 100) matrix: without axis=1, norm() would return its Frobenius norm, one number.
by_hand = []
for x in a:
    for y in b:
        norms = np.linalg.norm(x, axis=1, keepdims=True) * np.linalg.norm(y, axis=1)
        by_hand.append(np.dot(x, y.T) / norms)
print(np.allclose(np.array(by_hand)[:, :, 0], matrix, atol=1e-6))
