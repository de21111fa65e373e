#include "nn/batch_norm.h"

#include "base/pool.h"
#include "base/scratch.h"
#include "kernels/kernels.h"

enum {
    COST = 4,         /* multiplications that one element costs */
    TASK_CHANNELS = 8 /* most channels of a task */
};

struct channels_run {
    const struct channels *call;
    double (*sums)[2];
    const double (*factors)[3];
    char *output;
    size_t task_channels;
    size_t images; /* images to read: 0 for an empty array, which may have a huge number of them */
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

/* Channels of a task, so that images of few pixels are read along long runs of memory. */
static size_t channels_of_task(const struct channels *call)
{
    enum { PIXELS = 2048 };
    return larger(smaller(PIXELS / larger(call->pixels, 1), TASK_CHANNELS), 1);
}

static void sums_task(void *context, size_t task, size_t worker)
{
    const struct channels_run *run = context;
    const struct channels *call = run->call;
    const size_t first = task * run->task_channels,
                 count = smaller(run->task_channels, call->channels - first);
    double parts[TASK_CHANNELS][2][CHANNEL_SUMS] = {{{0.0}}};
    for (size_t i = 0; i < run->images && !cancel_poll(call->token, worker); i++) {
        for (size_t c = 0; c < count; c++) {
            const size_t offset = offset_of(call, i, first + c);
            kernels_current()->elementwise[call->compute].channel_sums(
                call->pixels, at_or_null(call->x, offset), at_or_null(call->y, offset),
                call->centre[first + c], parts[c]);
        }
    }
    for (size_t i = 0; i < 2 * count; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < CHANNEL_SUMS; j++) {
            sum += parts[i / 2][i % 2][j];
        }
        run->sums[first + i / 2][i % 2] = sum;
    }
}

static void affine_task(void *context, size_t task, size_t worker)
{
    const struct channels_run *run = context;
    const struct channels *call = run->call;
    const size_t first = task * run->task_channels,
                 count = smaller(run->task_channels, call->channels - first);
    for (size_t i = 0; i < run->images && !cancel_poll(call->token, worker); i++) {
        for (size_t c = first; c < first + count; c++) {
            const size_t offset = offset_of(call, i, c);
            kernels_current()->elementwise[call->compute].channel_affine(
                call->pixels, at_or_null(call->x, offset), at_or_null(call->y, offset),
                call->centre[c], run->factors[c], run->output + offset);
        }
    }
}

static void run_channels(struct channels_run *run, pool_task task)
{
    const struct channels *call = run->call;
    const size_t elements = size_product_or_max(call->images, call->pixels);
    const int threads =
        thread_count_for(call->channels, size_product_or_max(elements, COST), GRAIN_SUMS);
    run->task_channels = channels_of_task(call);
    run->images = call->pixels == 0 ? 0 : call->images;
    pool_run(size_parts(call->channels, run->task_channels), threads, task, run, call->token);
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
