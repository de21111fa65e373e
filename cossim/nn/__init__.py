"""The layers of a small convolutional network, forward, with torch's names, arguments and meaning."""

from cossim.nn.functional import conv2d, linear, max_pool2d, relu
from cossim.nn.modules import Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential
from cossim.nn.weights import load_weights, save_weights

__all__ = [
    "Conv2d",
    "Flatten",
    "Linear",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Sequential",
    "conv2d",
    "linear",
    "load_weights",
    "max_pool2d",
    "relu",
    "save_weights",
]
