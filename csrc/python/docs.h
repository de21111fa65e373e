#pragma once

#include "base/eps.h"

/* Docstrings of the functions over vectors. inspect and help() read the signature from the first
 * line. */

#define DOC_TEXT_(a) #a
#define DOC_TEXT(a) DOC_TEXT_(a)
#define DOC_DEFAULT_EPS DOC_TEXT(DEFAULT_EPS)
#define DOC_NORMALIZE_EPS DOC_TEXT(NORMALIZE_EPS)

/* Headings of the sections. Every example begins with the same import. */
#define DOC_PARAMETERS "\nParameters\n----------\n"
#define DOC_RETURNS "\nReturns\n-------\n"
#define DOC_EXAMPLES "\nExamples\n--------\n>>> import numpy as np, cossim\n"

#define DOC_OPERANDS \
    "x1, x2 : array_like\n" \
    "    Any shapes that broadcast against each other, with any strides and byte\n" \
    "    order. float64, float32, float16 or bfloat16 (from ml_dtypes); integers and\n" \
    "    bool count as float64. Mixed types promote as in NumPy; float16 with\n" \
    "    bfloat16 gives float32. Tensors (DLPack), columns and tables of vectors\n" \
    "    (Arrow, pandas) and sequences of vectors count as arrays. Never modified.\n"

#define DOC_DIM \
    "dim : int\n" \
    "    The dimension of the broadcast shape that holds the vectors; negative ones\n" \
    "    count from the end. If it is not passed, it is 1, but a broadcast shape with\n" \
    "    one dimension is one vector. axis is another name for it.\n"

#define DOC_SPARSE_ROWS \
    "    Sparse rows too, along dim=1: SciPy's arrays and matrices, and objects with\n" \
    "    the arrays of CSR.\n"

#define DOC_OUT \
    "out : numpy.ndarray, optional\n" \
    "    The array that receives the result: exactly its shape, writeable, one of\n" \
    "    the four float dtypes, not masked. It may share memory with the operands. If\n" \
    "    its own elements share memory with each other (np.lib.stride_tricks), their\n" \
    "    values are undefined, as in NumPy.\n"
#define DOC_OUT_LAST DOC_OUT DOC_RETURNS

#define DOC_TYPE_ERROR \
    "Raises\n" \
    "------\n" \
    "TypeError\n" \
    "    An operand is complex, text, masked or holds numbers as Python objects, or\n" \
    "    an argument has the wrong type.\n"
#define DOC_VALUE_ERROR \
    "ValueError\n" \
    "    Shapes do not match, a row is null or of another length, eps is negative or\n" \
    "    NaN, or out does not fit the result.\n"
#define DOC_ERRORS \
    DOC_TYPE_ERROR \
    "numpy.exceptions.AxisError\n" \
    "    dim is out of range. AxisError is both an IndexError and a ValueError.\n" DOC_VALUE_ERROR

#define DOC_cosine_similarity \
    "cosine_similarity($module, x1, x2, dim=1, eps=" DOC_DEFAULT_EPS \
    ", *, out=None, axis=None)\n--\n\n" \
    "Cosine similarity of x1 and x2 along dim.\n\n" \
    "    x1 . x2 / (max(|x1|, eps) * max(|x2|, eps))\n\n" \
    "This is the formula of torch.nn.functional.cosine_similarity, which clamps each\n" \
    "norm separately.\n" DOC_PARAMETERS DOC_OPERANDS DOC_SPARSE_ROWS DOC_DIM "eps : float\n" \
    "    The smallest norm to divide by, so that zero vectors give 0.\n" DOC_OUT_LAST \
    "numpy.ndarray or NumPy scalar\n" \
    "    The broadcast shape without dim, in the promoted dtype. Always in [-1, 1],\n" \
    "    and exactly 1 for identical non-zero vectors. NaN and infinity in a vector\n" \
    "    give NaN, without a warning.\n" \
    "\n" DOC_ERRORS "\n" \
    "Notes\n" \
    "-----\n" \
    "Sums are accumulated in float64. For float64 operands, the rounding errors are\n" \
    "added too. Vectors whose squares would overflow or underflow are scaled first.\n" \
    "Operands that broadcast against each other, such as z[None] and z[:, None], run\n" \
    "as a blocked matrix product (float32 sums, absolute error within 4e-7), without\n" \
    "an intermediate array of their broadcast shape.\n" DOC_EXAMPLES \
    ">>> cossim.cosine_similarity([3, 4], [4, 3])\n" \
    "np.float64(0.96)\n" \
    ">>> a = np.array([[3.0, 4.0], [1.0, 0.0]])\n" \
    ">>> b = np.array([[4.0, 3.0], [0.0, 2.0]])\n" \
    ">>> cossim.cosine_similarity(a, b)\n" \
    "array([0.96, 0.  ])\n" \
    ">>> cossim.cosine_similarity(a[None], a[:, None], dim=2)\n" \
    "array([[1. , 0.6],\n" \
    "       [0.6, 1. ]])\n"

#define DOC_cosine_distance \
    "cosine_distance($module, x1, x2, dim=1, eps=" DOC_DEFAULT_EPS \
    ", *, out=None, axis=None)\n--\n\n" \
    "Cosine distance of x1 and x2 along dim: 1 - cosine_similarity(x1, x2, dim, eps).\n\n" \
    "The subtraction precedes the rounding to the dtype of the result, so small\n" \
    "distances keep their digits.\n" DOC_PARAMETERS DOC_OPERANDS DOC_SPARSE_ROWS DOC_DIM \
    "eps : float\n" \
    "    The smallest norm to divide by, so that zero vectors have distance 1.\n" DOC_OUT_LAST \
    "numpy.ndarray or NumPy scalar\n" \
    "    The broadcast shape without dim, in the promoted dtype. In [0, 2]; exactly\n" \
    "    0 for identical non-zero vectors.\n" \
    "\n" DOC_ERRORS DOC_EXAMPLES \
    ">>> cossim.cosine_distance(np.array([3.0, 4.0]), np.array([-3.0, -4.0]))\n" \
    "np.float64(2.0)\n"

#define DOC_vecdot \
    "vecdot($module, x1, x2, dim=-1, *, out=None, axis=None)\n--\n\n" \
    "Dot products of the vectors of x1 and x2 along dim: the sum of x1 * x2.\n\n" \
    "The same as torch.linalg.vecdot for real types, " \
    "but summed in a wider type.\n" DOC_PARAMETERS DOC_OPERANDS "dim : int\n" \
    "    The dimension of the broadcast shape that is summed. axis is another name\n" \
    "    for it.\n" DOC_OUT_LAST "numpy.ndarray or NumPy scalar\n" \
    "    The broadcast shape without dim, in the promoted dtype.\n" \
    "\n" DOC_ERRORS DOC_EXAMPLES \
    ">>> cossim.vecdot(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 1.0]))\n" \
    "array([12., 34.])\n"

#define DOC_vector_norm \
    "vector_norm($module, x, dim=None, keepdim=False, *, out=None, axis=None, keepdims=None)\n" \
    "--\n\n" \
    "Euclidean norm of the vectors of x along dim: the square root of the sum of x * x.\n\n" \
    "The same as torch.linalg.vector_norm with ord=2. Neither the squares nor their\n" \
    "sum overflow or underflow.\n" DOC_PARAMETERS "x : array_like\n" \
    "    Any shape, strides and byte order. float64, float32, float16 or bfloat16;\n" \
    "    integers and bool count as float64. Never modified.\n" DOC_SPARSE_ROWS \
    "dim : int, tuple of int or None\n" \
    "    The dimensions that hold a vector; None (or an empty tuple) means all of\n" \
    "    them. axis is another name for it.\n" \
    "keepdim : bool\n" \
    "    Keep the reduced dimensions, with size 1. " \
    "keepdims is another name for it.\n" DOC_OUT_LAST "numpy.ndarray or NumPy scalar\n" \
    "    In the dtype of x (float64 for integers), in the units of x.\n" \
    "\n" DOC_ERRORS DOC_EXAMPLES ">>> x = np.array([[3.0, 4.0], [6.0, 8.0]])\n" \
    ">>> cossim.vector_norm(x, dim=1)\n" \
    "array([ 5., 10.])\n" \
    ">>> cossim.vector_norm(np.float32([3e30, 4e30]))\n" \
    "np.float32(5e+30)\n"

#define DOC_normalize \
    "normalize($module, x, dim=1, eps=" DOC_NORMALIZE_EPS ", *, out=None, axis=None)\n--\n\n" \
    "x divided by the norms of its vectors along dim: x / max(|x|, eps).\n\n" \
    "The same as torch.nn.functional.normalize with p=2.\n" DOC_PARAMETERS "x : array_like\n" \
    "    Any shape, strides and byte order. float64, float32, float16 or bfloat16;\n" \
    "    integers and bool count as float64. Never modified, unless it is out.\n" DOC_SPARSE_ROWS \
    "    The result is then a matrix of the same class, in CSR.\n" \
    "dim : int, tuple of int or None\n" \
    "    The dimensions that hold a vector; None means all of them. If it is not\n" \
    "    passed, it is 1, or 0 if x is one vector. axis is another name for it;\n" \
    "    axis=None means that it is not passed.\n" \
    "eps : float\n" \
    "    The smallest norm to divide by, so that zero vectors stay zero.\n" DOC_OUT_LAST \
    "numpy.ndarray or NumPy scalar\n" \
    "    The shape of x, in its dtype (float64 for integers).\n" \
    "\n" DOC_ERRORS DOC_EXAMPLES ">>> cossim.normalize(np.array([[3.0, 4.0], [0.0, 0.0]]))\n" \
    "array([[0.6, 0.8],\n" \
    "       [0. , 0. ]])\n" \
    ">>> cossim.normalize([3, 4])\n" \
    "array([0.6, 0.8])\n"

#define DOC_pairwise \
    "pairwise($module, x, y=None, *, eps=" DOC_DEFAULT_EPS ", out=None, progress=None, " \
    "binary=False)\n--\n\n" \
    "Cosine similarity of every row of x with every row of y.\n\n" \
    "    x[i] . y[j] / (max(|x[i]|, eps) * max(|y[j]|, eps))\n\n" \
    "A blocked matrix product computes the dot products and applies the formula of\n" \
    "torch.nn.functional.cosine_similarity to them.\n" DOC_PARAMETERS \
    "x : array_like, shape (N, D) or (D,)\n" \
    "    Rows are vectors. float64, float32, float16 or bfloat16; integers and bool\n" \
    "    count as float64. Any strides and byte order. Never modified. Sparse rows\n" \
    "    too: SciPy's arrays and matrices, and objects with the arrays of CSR.\n" \
    "y : array_like, shape (M, D) or (D,), optional\n" \
    "    None means x with itself, which takes half the time. The result is then\n" \
    "    exactly symmetric, and its diagonal exactly 1 (0 for zero rows).\n" \
    "eps : float\n" \
    "    The smallest norm to divide by, so that zero rows give 0.\n" DOC_OUT \
    "progress : bool or callable\n" \
    "    True shows a progress bar (needs tqdm). A callable is called with the number\n" \
    "    of scores done and their total. Ctrl-C stops the call.\n" \
    "binary : bool\n" \
    "    True: x and y are uint8, and a byte holds eight elements: +1 for each bit 1,\n" \
    "    -1 for each bit 0. numpy.packbits(rows > 0, axis=1) makes such rows from\n" \
    "    the signs of numbers. If two rows of n bits differ in h, their score is\n" \
    "    exactly (n - 2 h) / n, rounded once to float64. False: uint8 are numbers.\n" DOC_RETURNS \
    "numpy.ndarray, shape (N, M), or NumPy scalar\n" \
    "    One vector in place of a matrix has no axis in the result, as in matmul:\n" \
    "    shape (M,), (N,) or (). pairwise(x) of one vector compares it with itself.\n" \
    "    In the promoted dtype, always in [-1, 1]. A score does not depend on the\n" \
    "    other rows, on the number of threads or on the order of the arguments. In\n" \
    "    float32 its absolute error is within 4e-7 for D up to 4096, and within\n" \
    "    6.5e-7 between rows that are long runs of one value.\n" \
    "\n" DOC_TYPE_ERROR DOC_VALUE_ERROR DOC_EXAMPLES \
    ">>> x = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])\n" \
    ">>> cossim.pairwise(x)\n" \
    "array([[1. , 0.6, 0. ],\n" \
    "       [0.6, 1. , 0. ],\n" \
    "       [0. , 0. , 0. ]])\n" \
    ">>> cossim.pairwise(x, np.array([[-1.0, 0.0]]))\n" \
    "array([[-0.6],\n" \
    "       [-1. ],\n" \
    "       [ 0. ]])\n" \
    ">>> cossim.pairwise([4, 3], x)\n" \
    "array([0.96, 0.8 , 0.  ])\n" \
    ">>> bits = np.packbits([[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]], axis=1)\n" \
    ">>> cossim.pairwise(bits, binary=True)\n" \
    "array([[1.  , 0.75],\n" \
    "       [0.75, 1.  ]])\n"
