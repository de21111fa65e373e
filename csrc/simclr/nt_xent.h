#ifndef COSSIM_SIMCLR_NT_XENT_H
#define COSSIM_SIMCLR_NT_XENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cancel.h"
#include "vectors/compute_type.h"

/*
 * The loss of SimCLR (Chen et al. 2020, equation 1) and its gradient. With s the cosine
 * similarities of all rows of both views, t the temperature and p(i) the row that makes a pair with
 * row i:
 *
 *     loss = mean over i of log(sum over k != i of e^(s_ik / t)) - s_ip(i) / t
 *
 * and for rows z of norm n, z^ = z / max(n, eps), of M rows:
 *
 *     gradient of z^_i = 1 / (M t) sum over j of (e^(s_ij / t) (1 / sum_i + 1 / sum_j) - 2 [j =
 * p(i)]) z^_j gradient of z_i  = (that less its projection on z^_i, if n >= eps) / max(n, eps)
 */
struct nt_xent {
    enum compute_type compute;
    size_t rows; /* of both views together: even, at least 2 */
    size_t depth;
    const void *views[2]; /* contiguous: rows 0 .. rows/2 - 1, and the others */
    void *gradients[2];   /* where theirs go, or NULL, NULL: the loss alone */
    bool interleaved;     /* pairs are rows 2i and 2i + 1, else i and i + rows/2 */
    double temperature;   /* above 0, and 1 / temperature in the range of the type */
    double eps;
    struct cancel_token *token; /* or NULL */
};

/*
 * 0, or -1 when there is no memory: that of three copies of the rows and, with gradients, of one
 * matrix of at most NT_XENT_MATRIX bytes. Larger ones are not kept but calculated twice, which is
 * faster than memory that is new to the process.
 */
int nt_xent(const struct nt_xent *call, double *loss);

enum { NT_XENT_MATRIX = 16 << 20 };

#endif
