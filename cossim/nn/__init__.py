"""The layers of a small convolutional network, and their gradients. Names, arguments and results are torch's."""

from cossim.nn.functional import conv2d, linear, max_pool2d, relu
from cossim.nn.gradients import conv2d_vjp, linear_vjp, max_pool2d_vjp, relu_vjp
from cossim.nn.module import Module
from cossim.nn.modules import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from cossim.nn.optimizers import SGD, Adam
from cossim.nn.sequential import Sequential
from cossim.nn.weights import load_weights, save_weights

__all__ = [
    "SGD",
    "Adam",
    "Conv2d",
    "Flatten",
    "Linear",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Sequential",
    "conv2d",
    "conv2d_vjp",
    "linear",
    "linear_vjp",
    "load_weights",
    "max_pool2d",
    "max_pool2d_vjp",
    "relu",
    "relu_vjp",
    "save_weights",
]
