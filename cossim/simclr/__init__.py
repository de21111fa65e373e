"""SimCLR: an encoder of small images, random views of images, their similarity matrix, loss and training."""

from cossim.simclr.augment import augment
from cossim.simclr.encoder import Encoder
from cossim.simclr.loss import nt_xent, nt_xent_value_and_grad
from cossim.simclr.similarity import similarity_matrix
from cossim.simclr.training import Training, train

__all__ = ["Encoder", "Training", "augment", "nt_xent", "nt_xent_value_and_grad", "similarity_matrix", "train"]
