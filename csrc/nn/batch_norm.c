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
    double *means; /* NULL, or receives the means, and then the sums are about these */
    double (*sums)[2];
    const double (*factors)[3];
    char *output;
    size_t task_size; /* channels of a task of sums, planes of a task of affine maps */
    size_t planes;    /* 0 for an empty array, which may have a huge number of images */
};

static const void *at_or_null(const void *array, size_t offset)
{
    return array == NULL ? NULL : (const char *)array + offset;
}

/* Channels of a task: several if images have few pixels, so that tasks read long runs of memory. */
static size_t channels_of_task(const struct channels *call)
{
    enum { PIXELS = 2048 };
    return larger(smaller(PIXELS / larger(call->pixels, 1), TASK_CHANNELS), 1);
}

/* Computes the sums about the centres of channels [first, first + count). */
static void sum_channels(const struct channels_run *run, size_t first, size_t count,
                         const double *centres, size_t worker)
{
    const struct channels *call = run->call;
    const size_t plane = call->pixels * compute_size(call->compute);
    double parts[TASK_CHANNELS][2][CHANNEL_SUMS] = {{{0.0}}};
    for (size_t i = first; i < run->planes && !cancel_poll(call->token, worker);
         i += call->channels) {
        for (size_t c = 0; c < count; c++) {
            const size_t offset = (i + c) * plane;
            kernels_current()->elementwise[call->compute].channel_sums(
                call->pixels, at_or_null(call->x, offset), at_or_null(call->y, offset), centres[c],
                parts[c]);
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

static void sums_task(void *context, size_t task, size_t worker)
{
    const struct channels_run *run = context;
    const struct channels *call = run->call;
    const size_t first = task * run->task_size,
                 count = smaller(run->task_size, call->channels - first);
    const double zeros[TASK_CHANNELS] = {0.0};
    if (run->means == NULL) {
        sum_channels(run, first, count, call->centre + first, worker);
        return;
    }
    sum_channels(run, first, count, zeros, worker);
    for (size_t c = first; c < first + count; c++) {
        run->means[c] = run->sums[c][0] / (double)(call->images * call->pixels);
    }
    sum_channels(run, first, count, run->means + first, worker); /* reads them from the cache */
}

/* Maps the planes of a task, in the order in which they lie in memory. */
static void affine_task(void *context, size_t task, size_t worker)
{
    const struct channels_run *run = context;
    const struct channels *call = run->call;
    const size_t first = task * run->task_size, end = smaller(first + run->task_size, run->planes);
    for (size_t i = first; i < end && !cancel_poll(call->token, worker); i++) {
        const size_t offset = i * call->pixels * compute_size(call->compute),
                     c = i % call->channels;
        kernels_current()->elementwise[call->compute].channel_affine(
            call->pixels, at_or_null(call->x, offset), at_or_null(call->y, offset), call->centre[c],
            run->factors[c], run->output + offset);
    }
}

static void run_channels(struct channels_run *run, size_t units, size_t task_size, pool_task task)
{
    const struct channels *call = run->call;
    const size_t elements = size_product_or_max(call->images, call->pixels);
    const int threads =
        thread_count_for(call->channels, size_product_or_max(elements, COST), GRAIN_SUMS);
    run->task_size = task_size;
    run->planes = call->pixels == 0 ? 0 : call->images * call->channels;
    pool_run(size_parts(units, task_size), threads, task, run, call->token);
}

void channel_sums(const struct channels *call, double (*sums)[2])
{
    struct channels_run run = {.call = call, .sums = sums};
    run_channels(&run, call->channels, channels_of_task(call), sums_task);
}

void channel_statistics(const struct channels *call, double *means, double (*sums)[2])
{
    struct channels_run run = {.call = call, .means = means, .sums = sums};
    run_channels(&run, call->channels, channels_of_task(call), sums_task);
}

void channel_affine(const struct channels *call, const double (*factors)[3], void *output)
{
    enum { TASK_PIXELS = 1 << 16 };
    struct channels_run run = {.call = call, .factors = factors, .output = output};
    run_channels(&run, call->pixels == 0 ? 0 : call->images * call->channels,
                 larger(TASK_PIXELS / larger(call->pixels, 1), 1), affine_task);
}
