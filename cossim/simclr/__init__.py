"""SimCLR's pieces: the encoder of small grey images, the similarity of two views of each image, and the loss."""

from cossim.simclr.encoder import Encoder
from cossim.simclr.loss import nt_xent, nt_xent_value_and_grad
from cossim.simclr.similarity import similarity_matrix

__all__ = ["Encoder", "nt_xent", "nt_xent_value_and_grad", "similarity_matrix"]
