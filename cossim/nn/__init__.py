"""The layers of a small convolutional network, and their gradients. Names, arguments and results are torch's."""

from cossim.nn.activations import (
    GELU,
    Dropout,
    LeakyReLU,
    dropout,
    dropout_vjp,
    gelu,
    gelu_vjp,
    leaky_relu,
    leaky_relu_vjp,
)
from cossim.nn.average_pooling import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_vjp,
    avg_pool2d,
    avg_pool2d_vjp,
)
from cossim.nn.functional import conv2d, linear, max_pool2d, relu
from cossim.nn.gradients import conv2d_vjp, linear_vjp, max_pool2d_vjp, relu_vjp
from cossim.nn.module import Module
from cossim.nn.modules import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from cossim.nn.normalization import BatchNorm2d, batch_norm, batch_norm_vjp
from cossim.nn.optimizers import SGD, Adam, AdamW
from cossim.nn.schedules import CosineAnnealingLR, LinearLR, SequentialLR
from cossim.nn.sequential import Sequential
from cossim.nn.weights import load_weights, save_weights

__all__ = [
    "GELU",
    "SGD",
    "Adam",
    "AdamW",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "CosineAnnealingLR",
    "Dropout",
    "Flatten",
    "LeakyReLU",
    "Linear",
    "LinearLR",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Sequential",
    "SequentialLR",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_vjp",
    "avg_pool2d",
    "avg_pool2d_vjp",
    "batch_norm",
    "batch_norm_vjp",
    "conv2d",
    "conv2d_vjp",
    "dropout",
    "dropout_vjp",
    "gelu",
    "gelu_vjp",
    "leaky_relu",
    "leaky_relu_vjp",
    "linear",
    "linear_vjp",
    "load_weights",
    "max_pool2d",
    "max_pool2d_vjp",
    "relu",
    "relu_vjp",
    "save_weights",
]
