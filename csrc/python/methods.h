#pragma once

#include "arguments/numpy.h"

/*
 * The functions of the extension module: one table for each file of bindings. module.c adds them
 * all. Each table ends with an empty row.
 */

/* arrays.c: as_array, as_arrays and as_rows, which convert operands for functions written in
 * Python, and check_bits, which checks an operand. */
extern PyMethodDef array_methods[];

/* augment.c: augment, for cossim/simclr/augment.py. */
extern PyMethodDef augment_methods[];

/* convolutions.c: conv2d and its gradients. */
extern PyMethodDef conv2d_methods[];

/* network.c: run_layers and fused_layers, for cossim/nn/sequential.py. */
extern PyMethodDef network_methods[];

/* nn.c: pooling, linear, matmul, activations, and their gradients. */
extern PyMethodDef nn_methods[];

/* search.c: topk, pairs, top_pairs, components, first_match and quantize, for cossim/search/. */
extern PyMethodDef search_methods[];

/* simclr.c: nt_xent, for cossim/simclr/loss.py. */
extern PyMethodDef simclr_methods[];

/* sparse.c: searches, pairwise, row cosines and norms of sparse rows, for
 * cossim/search/sparse.py. */
extern PyMethodDef sparse_methods[];

/* similarity.c: cosine_similarity, cosine_distance, vecdot, vector_norm, normalize, pairwise. */
extern PyMethodDef similarity_methods[];

/* network.c: makes the names of attributes. Returns 0, or -1 with an error set. */
int network_init(void);
