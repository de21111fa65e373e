/* Gradients of filters from patches of single images. */
#include "network/lanes_patches.h"

#include <string.h>

#include "base/cancel.h"
#include "network/lanes_winograd.h"

enum { CACHE_LINE = 64 }; /* bytes */

/* Returns the cost of a patch in 64ths of a multiply-add of vectors. `step` is the distance of its
 * pixels; *columns becomes the vectors of a row. Each multiply-add needs a load, and a load from
 * two cache lines takes the time of two. Each part of a row loads the gradient and the position of
 * the window. */
static size_t patch_cost(const struct lanes_plan *p, const struct lanes_stage *s, size_t step,
                         size_t *columns)
{
    const size_t vector = smaller(p->lanes * p->size, CACHE_LINE),
                 load = CACHE_LINE + (step % p->lanes == 0 ? 0 : vector - p->size);
    *columns = size_parts(s->layer.kernel.w * step, p->lanes);
    const size_t width = lanes_patch_width(*columns), parts = size_parts(*columns, width);
    return s->layer.kernel.h * parts * (width * load + CACHE_LINE);
}

/* Compares two costs, in 64ths of multiply-adds of elements: by all pixels, and by patches. Patches
 * also need a list of windows, and a pixel's channels are transposed once. ReLU is assumed to set a
 * third of the gradients to 0. */
void lanes_patches_plan(const struct lanes_plan *p, const struct lanes_stage *s,
                        struct lanes_patch_gradients *g)
{
    /* A chain has about BLOCK_WINDOWS terms; the copies of a block stay in L1. */
    enum {
        LIST_COST = 4 * CACHE_LINE,
        TRANSPOSE_COST = 12 * CACHE_LINE,
        BLOCK_WINDOWS = 64,
        BLOCK_BYTES = 40 << 10
    };
    const struct layer *l = &s->layer;
    const size_t padded = size_parts(s->channels, p->lanes) * p->lanes;
    size_t padded_columns, columns;
    g->step = 0;
    g->windows = s->out.size.h * s->out.size.w;
    if (!s->pool || l->dilation.w != 1) {
        return;
    }
    const size_t aligned = patch_cost(p, s, padded, &padded_columns),
                 dense = patch_cost(p, s, s->channels, &columns),
                 step = dense < aligned ? s->channels : padded,
                 patch = smaller(dense, aligned) + LIST_COST,
                 all = size_product_or_max(size_product_or_max(l->out, g->windows),
                                           4 * CACHE_LINE * s->depth),
                 patches = size_product_or_max(size_product_or_max(l->out, g->windows),
                                               (s->relu ? patch / 3 * 2 : patch) * p->lanes),
                 copy = size_product_or_max(s->in.plane * l->groups, TRANSPOSE_COST * step);
    if (size_sum_or_max(patches, copy) < all) {
        g->step = step;
        g->columns = dense < aligned ? columns : padded_columns;
        g->group_step = s->in.plane * step;
        /* A patch is read less than lanes_patch_width vectors beyond its end. One vector more makes
         * the step odd, so that transposed images do not evict each other from L1. */
        const size_t vectors = size_parts(l->groups * g->group_step, p->lanes);
        g->image_step = ((vectors + lanes_patch_width(g->columns)) | 1) * p->lanes;
        g->block = smaller(BLOCK_WINDOWS / larger(g->windows, 1),
                           BLOCK_BYTES / size_product_or_max(g->image_step, p->size));
        g->block = larger(smaller(g->block, p->lanes), 1);
    }
}

void lanes_patches_take(struct lanes_patch_gradients *g, struct arena *arena)
{
    g->windows_at =
        arena_take(arena, g->step > 0 ? g->block * g->windows : 0, sizeof *g->windows_at);
}

/* The offset of output pixel (y, x) in a copy. */
static ptrdiff_t pixel_at(const struct lanes_stage *s, const struct lanes_patch_gradients *g,
                          size_t y, size_t x)
{
    return (ptrdiff_t)((y * s->layer.stride.h * s->in.pitch + x * s->layer.stride.w) * g->step);
}

void lanes_patches_fill(const struct lanes_stage *s, struct lanes_patch_gradients *g)
{
    for (size_t i = 0; g->step > 0 && i < g->block * g->windows; i++) {
        const size_t window = i % g->windows;
        g->windows_at[i] =
            (ptrdiff_t)(i / g->windows * g->image_step) +
            pixel_at(s, g, 2 * (window / s->out.size.w), 2 * (window % s->out.size.w));
    }
}

/* The memory of a call: the copies of all lanes; the gradients and choices, (filters, images,
 * windows). */
struct patches_call {
    char *copies, *gradients, *choices;
};

static size_t take_arrays(struct patches_call *r, const struct lanes_plan *p,
                          const struct lanes_stage *s, const struct lanes_patch_gradients *g,
                          char *memory)
{
    struct arena arena = {.block = memory};
    const size_t lanes = p->lanes, chosen = size_product_or_max(s->layer.out, g->windows);
    r->copies = arena_take(&arena, size_product_or_max(lanes, g->image_step), p->size);
    r->gradients = arena_take(&arena, size_product_or_max(lanes, chosen), p->size);
    r->choices = arena_take(&arena, size_product_or_max(lanes, chosen), p->size);
    return arena.bytes;
}

size_t lanes_patches_scratch(const struct lanes_plan *p, const struct lanes_stage *s,
                             const struct lanes_patch_gradients *g)
{
    struct patches_call call;
    return g->step == 0 ? 0 : take_arrays(&call, p, s, g, NULL);
}

void lanes_patches_add(const struct lanes_plan *p, const struct lanes_stage *s,
                       const struct lanes_patch_gradients *g, size_t images, const char *input,
                       const struct pooled_gradient *pooled, char *scratch, char *sums)
{
    _Alignas(SCRATCH_ALIGN) char check[LANES_VECTOR_BYTES] = {0};
    const struct layer *l = &s->layer;
    const size_t vector = p->lanes * p->size, filter_bytes = l->kernel.h * g->columns * vector;
    struct patches_call r;
    take_arrays(&r, p, s, g, scratch);
    for (size_t group = 0; group < l->groups; group++) {
        p->kernels->channels(r.copies + group * g->group_step * p->size, g->image_step,
                             input + group * s->channels * s->in.plane * vector,
                             s->in.plane * p->lanes, s->channels, g->step, s->in.plane, check);
    }
    for (size_t f = 0; f < l->out; f++) {
        const size_t at = f * g->windows * vector;
        p->kernels->scatter(r.gradients + at, g->windows, pooled->values + at, images, g->windows);
        p->kernels->scatter(r.choices + at, g->windows, pooled->choices + at, images, g->windows);
    }
    /* Pixels that are not chosen have gradients of 0, and 0 times infinity is NaN. */
    const size_t pixels = lanes_all_finite(p, check) ? 1 : 4;
    for (size_t i = 0; i < pixels; i++) {
        if (i == 1) {
            memset(r.gradients, 0, l->out * g->windows * vector);
        }
        for (size_t image = 0; image < images && !cancel_poll_here(); image += g->block) {
            const size_t windows = smaller(images - image, g->block) * g->windows;
            for (size_t group = 0; group < l->groups; group++) {
                const size_t from = (group * s->filters * p->lanes + image) * g->windows;
                struct lanes_patches d = {
                    .input = r.copies + (image * g->image_step + group * g->group_step) * p->size,
                    .zeros = pixels > 1,
                    .filters = s->filters,
                    .filter_step = p->lanes * g->windows,
                    .rows = l->kernel.h,
                    .columns = g->columns,
                    .row_step = l->dilation.h * s->in.pitch * g->step,
                    .sums = sums + group * s->filters * filter_bytes,
                };
                for (size_t j = 0; j < 4; j++) {
                    const size_t pixel = (i + j) % 4;
                    d.choice_offsets[j] = pixel_at(s, g, pixel / 2, pixel % 2);
                }
                for (size_t w = 0; w < windows; w += LANES_PATCH_WINDOWS) {
                    d.gradients = r.gradients + (from + w) * p->size;
                    d.choices = r.choices + (from + w) * p->size;
                    d.window_offsets = g->windows_at + w;
                    d.windows = smaller(windows - w, LANES_PATCH_WINDOWS);
                    p->kernels->patches(&d);
                }
            }
        }
    }
}

void lanes_patches_finish(const struct lanes_plan *p, const struct lanes_stage *s,
                          const struct lanes_patch_gradients *g, const char *sums, char *weights)
{
    const struct extent2 kernel = s->layer.kernel;
    for (size_t f = 0; f < s->layer.out; f++) {
        for (size_t c = 0; c < s->channels; c++) {
            for (size_t y = 0; y < kernel.h; y++) {
                const size_t row = (f * kernel.h + y) * g->columns * p->lanes;
                for (size_t x = 0; x < kernel.w; x++, weights += p->size) {
                    const char *from = sums + (row + x * g->step + c) * p->size;
                    if (p->size == sizeof(float)) { /* of constant size: a call takes longer */
                        memcpy(weights, from, sizeof(float));
                    } else {
                        memcpy(weights, from, sizeof(double));
                    }
                }
            }
        }
    }
}
