#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cancel.h"
#include "vectors/compute_type.h"

/*
 * Functions of single elements, and their gradients, as torch defines them:
 *
 *     LEAKY_RELU     x where x > 0, else slope * x
 *     GELU           x * Phi(x), with Phi the normal distribution: erfc(-x / sqrt(2)) / 2
 *     GELU_TANH      x * (1 + tanh(u)) / 2 = x / (1 + e^(-2 u)),
 *                    u = sqrt(2 / pi) (x + 0.044715 x^3)
 *
 * layer_kernels/elementwise_template.h states their errors.
 * e^(-2 u) and the tail of Phi keep their relative precision for negative x, where 1 + erf and
 * 1 + tanh cancel.
 */
enum activation { LEAKY_RELU, GELU, GELU_TANH, ACTIVATIONS };

struct activation_call {
    enum compute_type compute;
    enum activation activation;
    double slope; /* of LEAKY_RELU */
    size_t n;
    const void *input;          /* [n] */
    const void *gradient;       /* [n], or NULL for the function itself */
    void *output;               /* [n]: the function, or gradient times its derivative */
    struct cancel_token *token; /* or NULL */
};

void activation(const struct activation_call *call);
