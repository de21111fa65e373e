#include "nn/activations.h"

#include <math.h>

#include "base/pool.h"
#include "base/scratch.h"

static const double half_sqrt2 = 0.70710678118654752440,   /* 1 / sqrt(2) */
    normal_peak = 0.39894228040143267794,                  /* 1 / sqrt(2 pi) */
    tanh_slope = 0.79788456080286535588, cubic = 0.044715; /* sqrt(2 / pi) */

static double gelu(double x)
{
    return x * (0.5 * erfc(-x * half_sqrt2));
}

static double gelu_derivative(double x)
{
    return 0.5 * erfc(-x * half_sqrt2) + x * (normal_peak * exp(-0.5 * x * x));
}

static double gelu_tanh(double x)
{
    return x / (1.0 + exp(-2.0 * tanh_slope * (x + cubic * x * x * x)));
}

/* With s = 1 / (1 + e^(-2 u)): s + x * 2 u' * s (1 - s). */
static double gelu_tanh_derivative(double x)
{
    const double e = exp(-2.0 * tanh_slope * (x + cubic * x * x * x)), s = 1.0 / (1.0 + e);
    const double rest = isinf(e) ? 1.0 : e * s; /* 1 - s */
    return s + x * (2.0 * tanh_slope * (1.0 + 3.0 * cubic * x * x)) * (s * rest);
}

#define ELEMENT float
#define NAME(loop) loop##_f32
#include "nn/activations_template.h"

#define ELEMENT double
#define NAME(loop) loop##_f64
#include "nn/activations_template.h"

typedef void (*activation_loop)(size_t n, double slope, const void *input, const void *gradient,
                                void *output);

static const activation_loop loops[ACTIVATIONS][COMPUTE_TYPES] = {
    [LEAKY_RELU] = {[COMPUTE_F32] = leaky_relu_f32, [COMPUTE_F64] = leaky_relu_f64},
    [GELU] = {[COMPUTE_F32] = gelu_f32, [COMPUTE_F64] = gelu_f64},
    [GELU_TANH] = {[COMPUTE_F32] = gelu_tanh_f32, [COMPUTE_F64] = gelu_tanh_f64},
};

/* Elements of a task, and the multiplications that one element costs. */
enum { BLOCK = 4096 };
static const size_t cost[ACTIVATIONS] = {[LEAKY_RELU] = 1, [GELU] = 64, [GELU_TANH] = 64};

static void block_task(void *context, size_t task, size_t worker)
{
    const struct activation_call *call = context;
    const size_t size = compute_size(call->compute), first = task * BLOCK,
                 n = smaller(BLOCK, call->n - first), offset = first * size;
    (void)worker;
    loops[call->activation][call->compute](
        n, call->slope, (const char *)call->input + offset,
        call->gradient == NULL ? NULL : (const char *)call->gradient + offset,
        (char *)call->output + offset);
}

void activation(const struct activation_call *call)
{
    struct activation_call copy = *call;
    pool_run(size_parts(call->n, BLOCK),
             thread_count_for(call->n, cost[call->activation], GRAIN_SUMS), block_task, &copy,
             call->token);
}
