"""SimCLR's pieces: encoder of small grey images, random views, similarity of two views of each image, loss."""

from cossim.simclr.augment import augment
from cossim.simclr.encoder import Encoder
from cossim.simclr.loss import nt_xent, nt_xent_value_and_grad
from cossim.simclr.similarity import similarity_matrix

__all__ = ["Encoder", "augment", "nt_xent", "nt_xent_value_and_grad", "similarity_matrix"]
