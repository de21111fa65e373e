#include "nn/activations.h"

#include "base/pool.h"
#include "base/scratch.h"
#include "kernels/kernels.h"

static activation_kernel *kernel_of(const struct activation_call *call)
{
    const struct elementwise_kernels *kernels = &kernels_current()->elementwise[call->compute];
    return call->activation == LEAKY_RELU ? kernels->leaky_relu
           : call->activation == GELU     ? kernels->gelu
                                          : kernels->gelu_tanh;
}

/* BLOCK: elements of a task. cost: the time of one element, in multiplications. */
enum { BLOCK = 4096 };
static const size_t cost[ACTIVATIONS] = {[LEAKY_RELU] = 1, [GELU] = 8, [GELU_TANH] = 8};

static void block_task(void *context, size_t task, size_t worker)
{
    const struct activation_call *call = context;
    const size_t size = compute_size(call->compute), first = task * BLOCK,
                 n = smaller(BLOCK, call->n - first), offset = first * size;
    (void)worker;
    kernel_of(call)(n, call->slope, (const char *)call->input + offset,
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
