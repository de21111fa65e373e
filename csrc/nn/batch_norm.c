#include "nn/batch_norm.h"

#include "base/pool.h"
#include "base/scratch.h"

enum { LANES = 8, COST = 4 }; /* partial sums; multiplications that one element costs */

#define ELEMENT float
#define NAME(loop) loop##_f32
#include "nn/batch_norm_template.h"

#define ELEMENT double
#define NAME(loop) loop##_f64
#include "nn/batch_norm_template.h"

static const struct batch_norm_loops {
    void (*add_sums)(size_t n, const void *x, const void *y, double centre, double (*sums)[LANES]);
    void (*affine)(size_t n, const void *x, const void *y, double centre, const double *factors,
                   void *output);
} loops[COMPUTE_TYPES] = {
    [COMPUTE_F32] = {add_sums_f32, affine_f32},
    [COMPUTE_F64] = {add_sums_f64, affine_f64},
};

struct channels_run {
    const struct channels *call;
    double (*sums)[2];
    const double (*factors)[3];
    char *output;
};

/* Returns the byte offset of a channel of an image. */
static size_t offset_of(const struct channels *call, size_t image, size_t channel)
{
    return (image * call->channels + channel) * call->pixels * compute_size(call->compute);
}

static const void *at_or_null(const void *array, size_t offset)
{
    return array == NULL ? NULL : (const char *)array + offset;
}

static void sums_task(void *context, size_t channel, size_t worker)
{
    const struct channels_run *run = context;
    const struct channels *call = run->call;
    double lanes[2][LANES] = {{0.0}};
    for (size_t i = 0; i < call->images && !cancel_poll(call->token, worker); i++) {
        const size_t offset = offset_of(call, i, channel);
        loops[call->compute].add_sums(call->pixels, at_or_null(call->x, offset),
                                      at_or_null(call->y, offset), call->centre[channel], lanes);
    }
    for (size_t k = 0; k < 2; k++) {
        double sum = 0.0;
        for (size_t j = 0; j < LANES; j++) {
            sum += lanes[k][j];
        }
        run->sums[channel][k] = sum;
    }
}

static void affine_task(void *context, size_t channel, size_t worker)
{
    const struct channels_run *run = context;
    const struct channels *call = run->call;
    for (size_t i = 0; i < call->images && !cancel_poll(call->token, worker); i++) {
        const size_t offset = offset_of(call, i, channel);
        loops[call->compute].affine(call->pixels, at_or_null(call->x, offset),
                                    at_or_null(call->y, offset), call->centre[channel],
                                    run->factors[channel], run->output + offset);
    }
}

static void run_channels(struct channels_run *run, pool_task task)
{
    const struct channels *call = run->call;
    const size_t elements = size_product_or_max(call->images, call->pixels);
    const int threads =
        thread_count_for(call->channels, size_product_or_max(elements, COST), GRAIN_SUMS);
    pool_run(call->channels, threads, task, run, call->token);
}

void channel_sums(const struct channels *call, double (*sums)[2])
{
    struct channels_run run = {.call = call, .sums = sums};
    run_channels(&run, sums_task);
}

void channel_affine(const struct channels *call, const double (*factors)[3], void *output)
{
    struct channels_run run = {.call = call, .factors = factors, .output = output};
    run_channels(&run, affine_task);
}
