"""SimCLR's pieces: the encoder of small grey images, and the similarity of two views of each image."""

from cossim.simclr.encoder import Encoder
from cossim.simclr.similarity import similarity_matrix

__all__ = ["Encoder", "similarity_matrix"]
