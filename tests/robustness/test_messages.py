"""Every error message is tested here once, in full; other tests check types, names of arguments and numbers.

A row is either "call -> type of its error: message", or "command line -> exit code: text on stderr". Indented lines
continue a row. A refusal leaves the files as they were.
"""

import json
import re
import shlex
import sys
import zlib
from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from conftest import SAFETENSORS
from index_files import BODY, entry, forge, with_arrays
from public_inputs import npy_bytes

import cossim
from cossim import nn, simclr
from cossim.__main__ import main
from cossim.cli import image_files
from cossim.search import dask_arrays, index_file

ROWS = r"""
# ---- vectors ----
cosine_similarity(X[0], X[0]) -> AxisError: cosine_similarity(): dim 1 is out of range for 1 dimension: it must be from
    -1 to 0 (x1: shape (4,), dtype float64; x2: shape (4,), dtype float64)
cosine_similarity(X, X, 0.0) -> TypeError: cosine_similarity(): dim must be an integer, not float
cosine_similarity(X, X, 0, axis=1) -> TypeError: cosine_similarity() got both dim and axis, which are two names of one
    argument
vecdot(X, X, 2**100) -> AxisError: vecdot(): dim is out of range for 2 dimensions: it must be from -2 to 1 (x1: shape
    (6, 4), dtype float64; x2: shape (6, 4), dtype float64)
vector_norm(X, (0, -2)) -> ValueError: vector_norm(): dim 0 is named twice (x: shape (6, 4), dtype float64)
cosine_similarity(X, X, eps=-1.0) -> ValueError: cosine_similarity(): eps must be a number >= 0, not -1.0
cosine_similarity(X, X, eps="1") -> TypeError: cosine_similarity(): eps must be a number, not str
cosine_similarity(X, X, out=np.ma.zeros(6)) -> TypeError: cosine_similarity(): out is a masked array, whose mask would
    stay as it is: pass out.data or a plain array
pairwise(np.ma.ones((2, 2))) -> TypeError: pairwise(): x is a masked array, whose mask would be ignored: pass
    x.filled(...) or a plain array
pairwise(X.astype(complex)) -> TypeError: pairwise(): x must hold real numbers: float64, float32, float16, bfloat16,
    integers or bool (x: shape (6, 4), dtype complex128)
cosine_similarity_vjp(X, X)[1](np.ones(3)) -> ValueError: cosine_similarity_vjp(): dy must have the shape and dtype of y
    (dy: shape (3,), dtype float64; y: shape (6,), dtype float64)
pairwise_vjp(X)[1](np.ones((6, 6), np.float32)) -> TypeError: pairwise_vjp(): dS must have the shape and dtype of S (dS:
    shape (6, 6), dtype float32; S: shape (6, 6), dtype float64)
explain(X, Y) -> ValueError: cosine_similarity(): the shapes of x1 and x2 do not broadcast: sizes 6 and 5 meet at
    dimension -2 (x1: shape (6, 4), dtype float64; x2: shape (5, 4), dtype float64); to compare every row of x1 with
    every row of x2: cosine_similarity(x1[:, None], x2[None], dim=2), or cossim.pairwise(x1, x2)
set_num_threads(2**100) -> ValueError: set_num_threads(): n must be at least 1 and at most 2147483647
set_num_threads(0) -> ValueError: set_num_threads(): n must be at least 1 and at most 2147483647, not 0
set_num_threads(1.5) -> TypeError: set_num_threads(): n must be an integer, not float
show_config(mode="json") -> ValueError: show_config(): mode must be 'stdout' or 'dicts', not 'json'
# ---- search ----
topk(X, Y, 0) -> ValueError: topk(): k must be from 1 to 5, the number of candidates, not 0
topk(X, Y, 2.0) -> TypeError: topk(): k must be an integer, not float
topk(X[:1], None, 1) -> ValueError: topk(): there are no candidates: a single row has no others
topk(X[:, :3], Y, 1) -> ValueError: topk(): rows of queries have 3 elements, rows of corpus 4 (queries: shape (6, 3),
    dtype float64; corpus: shape (5, 4), dtype float64)
topk(X, Y[:0], 1) -> ValueError: topk(): corpus has no rows (shape (0, 4))
topk(X[:, :0], Y[:, :0], 1) -> ValueError: topk(): rows of corpus have no elements (shape (5, 0))
topk(X, Y[0], 1) -> ValueError: topk(): corpus must have 2 dimensions: rows are vectors, shape (N, D) (corpus: shape
    (4,), dtype float64)
topk(X, "nested.npy", 1) -> ValueError: topk(): corpus is the path of nested.npy, which is no .npy array: its header is
    damaged
topk(X, Y, 1, memory=0) -> ValueError: topk(): memory must be at least 1, not 0
topk(X, Y, 1, memory="1G") -> TypeError: topk(): memory must be a number of bytes, not str
topk(X, Y, 1, progress=1) -> TypeError: topk(): progress must be None, a bool or a callable of (done, total), not int
pairs_above(X, 1.1) -> ValueError: pairs_above(): threshold must be in [-1, 1], as cosines are, not 1.1
pairs_above(X, "0.5") -> TypeError: pairs_above(): threshold must be a number, not str
pairs_above(X, 0.5, max_pairs=2) -> ValueError: pairs_above(): 15 pairs reach 0.5, more than max_pairs=2
pairs_above(X, 0.5, max_pairs=-1) -> ValueError: pairs_above(): max_pairs must be at least 0, not -1
pairs_above(X, 0.5, max_pairs=1.5) -> TypeError: pairs_above(): max_pairs must be an integer or None, not float
topk(X, Y, 1, progress=True) -> ModuleNotFoundError: topk(): progress=True draws a bar with tqdm: pip install
    'cossim-c[progress]'
lazy.topk(DX, DX, 2, progress=True) -> TypeError: topk(): progress cannot be used with Dask arrays:
    dask.diagnostics.ProgressBar or the dashboard shows it
lazy.pairwise(DX, out=np.ones((6, 6))) -> TypeError: pairwise(): out cannot be used with Dask arrays, whose results
    are lazy: dask.array.store fills an array
lazy.pairwise(DX[DX[:, 0] > 0]) -> ValueError: pairwise(): x has chunks of unknown size: call
    x.compute_chunk_sizes() first
lazy.pairwise(dask.delayed(len)(1)) -> TypeError: pairwise(): x must be a dask.array.Array, not Delayed
# ---- index files ----
Index.load("other.index") -> ValueError: Index.load(): other.index holds other arrays than those of an index
Index.load("flat.npy") -> ValueError: 'flat.npy': not an index file of cossim but a .npy file
Index.load("X.npz") -> ValueError: 'X.npz': not an index file of cossim but a .npz or other .zip file
Index.load("empty.npy") -> ValueError: 'empty.npy': not an index file of cossim but an empty one
Index.load("text.npy") -> ValueError: 'text.npy': not an index file of cossim, by its first bytes
index_file.write("new", {}, {"x": [1, 2]}) -> TypeError: array 'x' must be a NumPy array, not list
index_file.write("new", {}, {"x": np.zeros(2, complex)}) -> TypeError: array 'x' has dtype complex128, which an index
    file cannot hold
index_file.write("new", {}, {1: X}) -> TypeError: names of arrays must be str, not 1
index_file.write("/dev/null", {}, {}) -> ValueError: '/dev/null': not a regular file, so nothing is written there
forged(with_arrays(), bytes(8)) -> ValueError: 'forged': damaged: a header of 28 bytes at 72
forged(with_arrays(), offset=2**40) -> ValueError: 'forged': cut off: 92 bytes of 1099511627804
forged(with_arrays(), length=2) -> ValueError: 'forged': 26 bytes too long: 92 bytes, not 66
forged(with_arrays(entry()), bytes(64)) -> ValueError: 'forged': damaged: bytes 0 to 63 of array 'x' do not match their
    checksum
forged(with_arrays(entry()), BODY, zeros=bytes(27) + b"\1") -> ValueError: 'forged': damaged: bytes 32 to 59 are not
    zero
forged(with_arrays(), version=0) -> ValueError: 'forged': version 0 of the format, and this cossim reads version 1
forged(with_arrays(), version=2) -> ValueError: 'forged': version 2 of the format, and this cossim reads version 1: a
    newer cossim is needed
forged(with_arrays(entry(dtype="bool", shape=[64], crc32=[zlib.crc32(b"\2" * 64)])), b"\2" * 64) -> ValueError:
    'forged': damaged: array 'x' of bool holds other bytes than 0 and 1
(hide("ml_dtypes"), index_file.read("bfloat16.index")) -> ImportError: 'bfloat16.index' holds bfloat16, which needs
    ml_dtypes: pip install ml_dtypes
# ---- layers ----
cossim._core.relu(np.array(1.0), np.array(1.0)) -> ValueError: relu(): arrays that do not fit together; call it through
    cossim.nn
cossim._core.Network((("conv2d", X, None, (1, 1), (0, 0), (0, 0), (1, 1), 1),)) -> ValueError: Network(): a layer that
    cannot be run with others
nn.Sequential(nn.ReLU(), 3) -> TypeError: Sequential(): layer '1' cannot be called: int
nn.Conv2d(4, 6, 3, groups=3) -> ValueError: Conv2d(): groups=3 must divide in_channels=4 and out_channels=6
nn.Conv2d(0, 6, 3) -> ValueError: Conv2d(): in_channels must be at least 1, not 0
nn.Conv2d(4, 6, 3, padding_mode="mirror") -> ValueError: Conv2d(): padding_mode must be one of zeros, reflect,
    replicate, circular, not 'mirror'
nn.Conv2d(1, 1, 10**5000) -> ValueError: Conv2d(): kernel_size must be below 2**31, not (thousands of digits)
nn.Conv2d(1, 1, 3, padding=4, padding_mode="reflect")(np.zeros((1, 1, 4, 4), "f4")) -> ValueError: Conv2d(): padding (4,
    4) is too large for padding_mode='reflect' and images of size (4, 4)
nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")(np.zeros(3, "f4")) -> ValueError: conv2d(): x must have 4
    dimensions, (N, C, H, W), or 3 for one image (x: shape (3,), dtype float32; weight: shape (1, 1, 3, 3), dtype
    float32; bias: shape (1,), dtype float32)
nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular").vjp(np.zeros((2, 2, 3, 3), "f4")) -> ValueError: conv2d(): x has
    2 channels, but weight is for 1 in each of 1 group(s) (x: shape (2, 2, 3, 3), dtype float32; weight: shape (1, 1, 3,
    3), dtype float32; bias: shape (1,), dtype float32)
nn.Linear(2**63, 1) -> ValueError: Linear(): in_features must be below 2**63, not 9223372036854775808
nn.Flatten(10**5000)(X) -> AxisError: Flatten(): dim (thousands of digits) is out of range for x of shape (6, 4)
nn.Flatten(1.0)(X) -> TypeError: Flatten(): start_dim must be an integer, not float
nn.ReLU().vjp(X)[1](X[0]) -> ValueError: relu_vjp(): dy must have the shape and dtype of the result (dy: shape (4,),
    dtype float64; y: shape (6, 4), dtype float64)
nn.Sequential(OrderedDict(c=abs)).vjp(X) -> TypeError: Sequential.vjp(): layer 'c' has no vjp:
    builtin_function_or_method
nn.Sequential(OrderedDict(c=nn.Linear(4, 3)))(X) -> TypeError: layer 'c': linear(): x and weight must have the same
    dtype (x: shape (6, 4), dtype float64; weight: shape (3, 4), dtype float32; bias: shape (3,), dtype float32)
simclr.Encoder()(np.zeros((2, 3, 28, 28), np.float32)) -> ValueError: Encoder(): images must have shape (N, 1, 28, 28),
    not (2, 3, 28, 28)
# ---- weights ----
nn.Linear(4, 2, bias=False).load_state_dict({"weight": np.ones((2, 4)), "bias": [1]}) -> ValueError: load_state_dict():
    the dict does not fit Linear: bias is not expected
nn.Linear(4, 2).load_state_dict({"weight": np.ones((4, 2)), "bias": [1, 2]}) -> ValueError: load_state_dict(): the dict
    does not fit Linear: weight must have shape (2, 4), not (4, 2)
(layer := nn.Linear(4, 2), layer.bias.setflags(write=False), layer.load_state_dict(layer.state_dict())) -> ValueError:
    load_state_dict(): the dict does not fit Linear: bias is read-only in the layer
(layer := nn.Linear(4, 2), setattr(layer, "bias", [1, 2]), layer.load_state_dict({"weight": layer.weight, "bias": [1,
    2]})) -> ValueError: load_state_dict(): the dict does not fit Linear: bias of the layer is no NumPy array, but a
    list
nn.load_weights("array.npz") -> ValueError: array.npz: damaged or no .npz file: it holds a single array without a name
nn.Linear(4, 2).load_state_dict("complex.npz") -> ValueError: complex.npz: load_state_dict(): weight must hold real
    numbers: float64, float32, float16, bfloat16, integers or bool (weight: shape (2, 4), dtype complex128)
nn.load_weights("bfloat16.safetensors") -> ValueError: bfloat16.safetensors: it holds numbers of type BF16, which NumPy
    does not have
nn.save_weights("w.npz", {"a\0b": X}) -> ValueError: save_weights(): a .npz file cannot hold an array by the name
    'a\x00b'
nn.save_weights("w.npz", {"b": np.ones(3, ml_dtypes.bfloat16)}) -> TypeError: save_weights(): b is bfloat16, which NumPy
    cannot read back: as float32 it has the same values
nn.save_weights("w.txt", {"a": X}) -> ValueError: w.txt: a weights file must end in .npz or .safetensors
nn.save_weights("folder.npz", {"a": X}) -> OSError: [Errno 22] something else than a file is there: 'folder.npz'
(hide("safetensors", "safetensors.numpy"), nn.save_weights("w.safetensors", {"a": X})) -> ModuleNotFoundError: reading
    and writing .safetensors needs safetensors: pip install 'cossim-c[weights]'
# ---- optimizers ----
nn.SGD(W, -0.1) -> ValueError: SGD(): lr must be a finite number from 0, not -0.1
nn.SGD(W, 10**400) -> ValueError: SGD(): lr must be a number that fits a float64
nn.SGD(W, "0.1") -> TypeError: SGD(): lr must be a number, not '0.1'
nn.SGD(W, 0.1, dampening=np.inf) -> ValueError: SGD(): dampening must be a finite number, not inf
nn.SGD(W, 0.1, nesterov=True) -> ValueError: SGD(): nesterov needs a momentum above 0 and a dampening of 0, not 0.0 and
    0.0
nn.Adam(W, betas=(1.0, 0.9)) -> ValueError: Adam(): betas[0] must be a finite number from 0 to below 1, not 1.0
nn.Adam(W, betas=0.9) -> TypeError: Adam(): betas must be a pair of numbers, not 0.9
nn.Adam([np.ones(3)]) -> TypeError: Adam(): parameters must be a Module or a dict of arrays, not list
nn.Adam({}) -> ValueError: Adam(): there are no parameters
nn.Adam({3: np.ones(3)}) -> TypeError: Adam(): names of parameters must be str, not 3
nn.Adam({"w": [1.0]}) -> TypeError: Adam(): w must be a NumPy array, not list
nn.Adam({"w": np.ones(3, "i8")}) -> TypeError: Adam(): w must be float32 or float64, not int64
nn.Adam({"w": np.broadcast_to(1.0, 3)}) -> ValueError: Adam(): w is read-only, so it cannot be changed in place
nn.Adam({"w": X, "b": X}) -> ValueError: Adam(): w and b are one and the same array
nn.SGD(W, 0.1).step({}) -> ValueError: SGD.step(): w is missing
nn.SGD(W, 0.1).step({"w": np.ones(2)}) -> ValueError: SGD.step(): w must have shape (3,), not (2,)
nn.SGD(W, 0.1).step({"w": np.ones(3, "f4")}) -> TypeError: SGD.step(): w must have dtype float64, not float32
nn.SGD(W, 0.1).step([np.ones(3)]) -> TypeError: SGD.step(): gradients must be a dict with the keys of the parameters,
    not list
nn.Adam(W).load_state_dict({}) -> ValueError: load_state_dict(): the dict does not fit Adam: step is missing; exp_avg.w
    is missing; exp_avg_sq.w is missing
nn.Adam(W).load_state_dict(nn.Adam(W).state_dict() | {"step": -1}) -> ValueError: load_state_dict(): the dict does not
    fit Adam: step must be an integer from 0, not -1
(w := np.ones(3), adam := nn.Adam({"w": w}), w.setflags(write=False), adam.step(W)) -> ValueError: Adam.step(): w is
    read-only
# ---- simclr ----
simclr.nt_xent(X, Y) -> ValueError: nt_xent(): z0 and z1 must have the same shape (N, D); z0 alone, (2 N, D) (z0: shape
    (6, 4), dtype float64; z1: shape (5, 4), dtype float64)
simclr.nt_xent(Y) -> ValueError: nt_xent(): z0 alone holds both views: its rows must be even in number (z0: shape (5,
    4), dtype float64)
simclr.nt_xent(X[:0]) -> ValueError: nt_xent(): at least one pair of rows is needed (z0: shape (0, 4), dtype float64)
simclr.nt_xent(X, X, pairs="interleaved") -> ValueError: nt_xent(): pairs='interleaved' takes one array of both views,
    z0 alone (z0: shape (6, 4), dtype float64; z1: shape (6, 4), dtype float64)
simclr.nt_xent(X, pairs="diagonal") -> ValueError: nt_xent(): pairs must be 'halves' or 'interleaved', not 'diagonal'
simclr.nt_xent(X, X, 0) -> ValueError: nt_xent(): temperature must be above 0 and finite, not 0.0
simclr.nt_xent(X, X, 1e-310) -> ValueError: nt_xent(): temperature 1e-310 is too small for float64: 1 / temperature
    overflows
simclr.nt_xent(X, X, "0.5") -> TypeError: nt_xent(): temperature must be a number, not str
simclr.nt_xent(X.astype(np.float16), X) -> TypeError: nt_xent(): z0 must be float32, float64 or integers (z0: shape (6,
    4), dtype float16; z1: shape (6, 4), dtype float64)
simclr.augment(np.zeros((2, 4, 4), np.uint8)) -> TypeError: augment(): images must be float32 or float64; scale integers
    to [0, 1] first (images: shape (2, 4, 4), dtype uint8)
simclr.augment(X) -> ValueError: augment(): images must have shape (N, C, H, W) or (N, H, W) (images: shape (6, 4),
    dtype float64)
simclr.augment(P, shift=-1) -> ValueError: augment(): shift must be at least 0 and finite, not -1
simclr.augment(P, rotate=361) -> ValueError: augment(): rotate must be between -360 and 360 degrees, not 361
simclr.augment(P, rotate=(10, -10)) -> ValueError: augment(): rotate must be (low, high) with low <= high, not (10, -10)
simclr.augment(P, scale=(0, 1)) -> ValueError: augment(): scale must be (low, high) with 0 < low <= high, both finite,
    not (0, 1)
simclr.augment(P, scale=1) -> TypeError: augment(): scale must be a pair of numbers, (low, high), not 1
simclr.train(P[0, 0]) -> ValueError: train(): images must have shape (N, C, H, W) or (N, H, W), not (28, 28)
simclr.train(P[:1]) -> ValueError: train(): two images are the least, to tell one from the other, not 1
simclr.train(np.ones((4, 1, 28, 28), np.uint8)) -> TypeError: train(): images must be float32 or float64, not uint8:
    pixels from 0 to 255 are to be divided by 255
simclr.train(P * [[[[np.nan] * 2 + [1] * 26]]]) -> ValueError: train(): 224 numbers in images of shape (4, 1, 28, 28)
    are NaN or infinite
simclr.train(P, epochs=-1) -> ValueError: train(): epochs must be at least 0, not -1
simclr.train(P, seed=None) -> TypeError: train(): seed must be an integer, not NoneType
simclr.train(P, optimizer="lbfgs") -> ValueError: train(): optimizer must be 'adam', 'sgd' or a callable, not 'lbfgs'
simclr.train(P, encoder=abs) -> TypeError: train(): encoder must be a Module, not builtin_function_or_method
simclr.train(P, augment="strong") -> TypeError: train(): augment must be a dict of augment's keywords or a callable, not
    str
simclr.train(P, augment=lambda x, rng: x[1:]) -> ValueError: train(): views must be float32 of shape (4, 1, 28, 28), not
    float32 of shape (3, 1, 28, 28)
simclr.train(P, augment=lambda x, rng: None) -> ValueError: train(): views must be float32 of shape (4, 1, 28, 28), not
    NoneType
simclr.train(P, augment=lambda x, rng: x * np.float32(np.nan)) -> ValueError: train(): the loss of step 1 of 1 in epoch
    1 is nan: try a smaller lr or a larger temperature
simclr.train(P, checkpoint="weights.npz") -> ValueError: weights.npz: not a checkpoint of cossim.simclr.train
simclr.train(P + 1, 2, 2, checkpoint="trained.npz") -> ValueError: trained.npz: a checkpoint of another training: the
    images are others
simclr.train(P, 1, 2, seed=2, checkpoint="trained.npz") -> ValueError: trained.npz: a checkpoint of another training:
    the encoder begins with other parameters; seed was 0, and is 2; it has 4 steps, and all epochs have 2
(monkeypatch.setattr(simclr.training, "VERSION", 2), simclr.train(P, checkpoint="trained.npz")) -> ValueError:
    trained.npz: a checkpoint of version 1, and this cossim reads version 2
# ---- files of images ----
image_files.read_images("text.npy") -> ValueError: text.npy: neither an idx nor a .npy file: it begins with 31 20 32 20
image_files.read_images("flat.npy") -> ValueError: flat.npy: images must have shape (N, 28, 28), (N, 1, 28, 28) or
    (N, 784), not (5,)
image_files.read_images("idx13.npy") -> ValueError: idx13.npy: idx elements of type 0x0d, where images have unsigned
    bytes, 0x08
image_files.read_images("long.npy") -> ValueError: long.npy: too long: shape (1, 28, 28) takes 784 bytes after the
    header, found more
image_files.read_images("complex.npy") -> ValueError: complex.npy: images must be real numbers, not complex128
image_files.read_images("nan.npy") -> ValueError: nan.npy: 784 numbers are NaN or infinite in float32
# ---- the command line ----
cossim demo --images none.npy --no-plot -> 1: cossim: none.npy: no images in it
cossim topk X.npy text.npy -k 1 -o hits.npz -> 1: cossim: text.npy: no .npy file: it begins with 31 20 32 20 33 0a;
    save the array with numpy.save
cossim topk X.npy empty.npy -k 1 -o hits.npz -> 1: cossim: empty.npy: no .npy file: it begins with nothing; save
    the array with numpy.save
cossim topk X.npy X.npz -k 1 -o hits.npz -> 1: cossim: X.npz: an archive such as .npz, where a single array, .npy, is
    needed: save one array of it with numpy.save
cossim topk X.npy complex.npy -k 1 -o hits.npz -> 1: cossim: complex.npy: the elements must be real numbers of at most
    64 bits, not complex128
cossim topk X.npy bfloat16.npy -k 1 -o hits.npz -> 1: cossim: bfloat16.npy: the elements must be real numbers of at most
    64 bits, not |V2, which is what NumPy makes of bfloat16: save it as float32
cossim topk X.npy flat.npy -k 1 -o hits.npz -> 1: cossim: flat.npy: an array of shape (5,), where rows of vectors, shape
    (N, D), are needed: save a single vector as x[None]
cossim topk X.npy cut.npy -k 1 -o hits.npz -> 1: cossim: cut.npy: truncated: shape (2, 4) takes 64 bytes after the
    header, found 63
cossim topk X.npy version.npy -k 1 -o hits.npz -> 1: cossim: version.npy: a .npy file of an unknown version, or a
    damaged one
cossim topk X.npy negative.npy -k 1 -o hits.npz -> 1: cossim: negative.npy: a size below 0 in shape (-2, 4)
cossim topk X.npy huge.npy -k 1 -o hits.npz -> 1: cossim: huge.npy: no array has the shape (0, 99999999999999999999)
cossim topk X.npy nested.npy -k 1 -o hits.npz -> 1: cossim: nested.npy: its header is damaged
cossim topk X.npy narrow.npy -k 1 -o hits.npz -> 1: cossim: rows of X.npy have 4 elements, rows of narrow.npy 3
cossim topk X.npy -k 9223372036854775808 -> 2: cossim topk: error: argument -k: 9223372036854775808 has more than 64
    bits
cossim topk X.npy -k 1 --threads 0 -> 2: cossim topk: error: argument --threads: 0 is not at least 1
cossim topk X.npy -k 1 --memory 1X -> 2: cossim topk: error: argument --memory: '1X' is no amount of memory, such as
    256M, 1.5G or a number of bytes
cossim topk X.npy -k 1 --memory 0 -> 2: cossim topk: error: argument --memory: '0' is not from 1 to 9223372036854775807
    bytes
cossim topk X.npy -k 1 -o hits -> 2: cossim topk: error: argument -o/--output: 'hits' has none of the suffixes .npz,
    .csv, .parquet
cossim topk X.npy -k 1 -o hits.parquet -> 1: cossim: hits.parquet: .parquet needs pyarrow: pip install
    'cossim-c[parquet]'
cossim topk X.npy -k 1 -o folder.npz -> 1: cossim: folder.npz: no file can be written there: something else than a file
    is there
cossim pairs X.npy X.npy --threshold 1 --groups -> 2: cossim pairs: error: argument --groups: not allowed with OTHER or
    --max-pairs
cossim train P.npy -o weights.pt -> 2: cossim train: error: argument -o/--output: 'weights.pt' does not end in .npz or
    .safetensors
cossim train P.npy -o w.npz --checkpoint ./w.npz -> 2: cossim train: error: argument --checkpoint: this is the file of
    -o/--output: name another
"""
ROWS = [row for row in re.sub(r"\n +", " ", ROWS).splitlines() if row and not row.startswith("#")]
ROWS = [re.fullmatch(r"(.+?) -> (\w+): (.+)", row).groups() for row in ROWS]
X, Y, W = np.ones((6, 4)), np.ones((5, 4)), {"w": np.ones(3)}
P = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)


def make_files():
    """Those that the rows name, in the current folder."""
    rows = npy_bytes(np.ones((2, 4)))
    pixels = b"\0\0\x08\3\0\0\0\1\0\0\0\x1c\0\0\0\x1c" + bytes(785)
    shape, huge = b"(2, 4), }" + b" " * 20, b"(0, 99999999999999999999), } "
    arrays = {"X": X, "P": P, "flat": np.ones(5), "narrow": np.ones((2, 3)), "complex": np.ones((2, 4), complex)}
    arrays |= {"bfloat16": np.ones((2, 4), "V2"), "none": np.zeros((0, 28, 28)), "nan": np.full((1, 784), np.nan)}
    files = {"text": b"1 2 3\n", "empty": b"", "idx13": b"\0\0\x0d\1\0\0\0\1a", "long": pixels, "cut": rows[:-1]}
    files |= {"negative": rows.replace(b"(2, 4)", b"(-2,4)"), "nested": rows.replace(b"}", b"{")}
    files |= {"huge": rows.replace(shape, huge), "version": b"\x93NUMPY\7" + rows[7:]}
    for name, data in (files | {name: npy_bytes(array) for name, array in arrays.items()}).items():
        Path(f"{name}.npy").write_bytes(data)
    Path("array.npz").write_bytes(rows)
    np.savez("X.npz", X)
    np.savez("complex.npz", weight=np.ones((2, 4), complex))
    nn.save_weights("weights.npz", {"weight": np.ones(3)})
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    Path("bfloat16.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    index_file.write("other.index", {}, {"x": X})
    index_file.write("bfloat16.index", {}, {"x": np.ones(2, ml_dtypes.bfloat16)})
    simclr.train(P, 2, 2, checkpoint="trained.npz")
    Path("folder.npz").mkdir()


def forged(*args, **kwargs):
    """Reads an index file with right checksums."""
    try:
        forge(Path("forged"), *args, **kwargs)
        index_file.read("forged")
    finally:
        Path("forged").unlink()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.mark.parametrize(("call", "kind", "message"), ROWS, ids=[call for call, _, _ in ROWS])
def test_message(call, kind, message, folder, monkeypatch, capsys):
    def hide(*modules):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    def contents():
        return {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}

    monkeypatch.chdir(folder)
    if not contents():
        make_files()
    before = contents()
    hide("pyarrow", "tqdm", "tqdm.auto")
    names = {name: getattr(cossim, name) for name in cossim.__all__} | {"hide": hide, "monkeypatch": monkeypatch}
    names |= globals() | {"lazy": dask_arrays, "image_files": image_files, "zlib": zlib, "OrderedDict": OrderedDict}
    names |= {"BODY": BODY, "entry": entry, "with_arrays": with_arrays}
    if "lazy." in call:
        array = pytest.importorskip("dask.array", reason="needs dask[array]")
        names |= {"dask": sys.modules["dask"], "DX": array.ones((6, 4), chunks=2)}
    if "bfloat16.safetensors" in call and not SAFETENSORS:
        pytest.skip("needs safetensors")
    if call.startswith("cossim "):
        with pytest.raises(SystemExit) as caught:
            sys.exit(main(shlex.split(call)[1:]))
        out, err = capsys.readouterr()
        assert (out, str(caught.value.code)) == ("", kind)
        assert "".join(err.splitlines(keepends=True)[-1 if kind == "2" else 0 :]) == f"{message}\n"
    else:
        with pytest.raises(Exception, match=r"\w") as caught:
            eval(call, names)
        assert (caught.type.__name__, str(caught.value)) == (kind, message)
    assert contents() == before
