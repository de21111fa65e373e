#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "vectors/compute_type.h"

/*
 * NT-Xent, the loss of SimCLR (Chen et al. 2020, equation 1), and its gradient. The M rows z_i are
 * those of both views together. s_ij is the cosine similarity of rows i and j, t is the
 * temperature, and row p(i) forms a pair with row i:
 *
 *     sum_i = sum over k != i of e^(s_ik / t)
 *     loss  = mean over i of log(sum_i) - s_ip(i) / t
 *
 * Row z_i has norm n_i, and its normalised row is z^_i = z_i / max(n_i, eps):
 *
 *     gradient of z^_i = 1 / (M t) * sum over j of
 *                        (e^(s_ij / t) (1 / sum_i + 1 / sum_j) - 2 [j = p(i)]) z^_j
 *     gradient of z_i  = (gradient of z^_i, minus its projection on z^_i if n_i >= eps)
 *                        / max(n_i, eps)
 *
 * With classes, the loss is the supervised contrastive loss (Khosla et al. 2020, L_out). P(i) is
 * the set of the other rows of i's class. The mean of s_ij over P(i) replaces s_ip(i). In the
 * gradient, 2 [j in P(i)] / |P(i)| replaces 2 [j = p(i)].
 */
struct nt_xent {
    enum compute_type compute;
    size_t rows; /* of both views together: even, at least 2 */
    size_t depth;
    const void *views[2];    /* the two halves of the rows, contiguous, (rows / 2, depth) each */
    void *gradients[2];      /* have the shapes of views; NULL, NULL: computes only the loss */
    bool interleaved;        /* pairs are rows 2i and 2i + 1; otherwise i and i + rows / 2 */
    const int64_t *classes;  /* [rows] or NULL: the class of each row */
    const double *positives; /* [rows] with classes: |P(i)|, at least 1 */
    double temperature;      /* above 0; 1 / temperature is in the range of the compute type */
    double eps;
    struct cancel_token *token; /* or NULL */
};

/* Largest size, in bytes, of a matrix of exponentials that is kept for the gradients. A larger
 * matrix is computed twice, block by block. That is faster than storing it in memory that the
 * process has not used before. */
enum { NT_XENT_MATRIX = 16 << 20 };

/* Returns 0, or -1 when memory runs out. Needs memory for three copies of the rows and, with
 * gradients, for one matrix of at most NT_XENT_MATRIX bytes. */
int nt_xent(const struct nt_xent *call, double *loss);
