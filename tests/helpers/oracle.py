"""Imports torch, the oracle. Without torch it defines a stand-in, and a test that calls the stand-in is skipped."""

import os

import pytest


class _Missing:
    """Stands in for torch while test modules are imported; a call of it skips the test."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args, **kwargs):
        pytest.skip("needs torch")

    __instancecheck__ = __call__

    def __mro_entries__(self, bases):
        return (_Skipping,)


class _Skipping:
    def __init__(self, *args, **kwargs):
        pytest.skip("needs torch")


try:
    import torch
    import torch.nn.functional as F
except ModuleNotFoundError:
    torch = F = _Missing()
    installed = False
else:
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    installed = True
