/* Max pooling, plane by plane, by torch's rules: the maximum is never in the padding, the index is
 * that of the first of several equal maxima, and NaN is greater than every number. */
#include <stdbool.h>
#include <string.h>

#include "nn/loops.h"

/* True if the windows are 2 x 2 squares with stride 2, all inside the image. */
static bool windows_are_squares(const struct max_pool2d *p)
{
    return p->kernel.h == 2 && p->kernel.w == 2 && p->stride.h == 2 && p->stride.w == 2 &&
           p->dilation.h == 1 && p->dilation.w == 1 && p->padding.h == 0 && p->padding.w == 0 &&
           2 * p->out.h <= p->in.h && 2 * p->out.w <= p->in.w;
}

/*
 * Pooling by maxima of pairs. The maximum of 2, 4, 8, ... neighbours is the larger of two maxima of
 * half as many neighbours. The maximum of a window of `length` elements is the larger of two such
 * maxima, over as many neighbours as the largest power of two up to `length`. One begins where the
 * window begins, and the other ends where it ends; they may overlap. So a window takes about
 * log2(length) steps, all of which are vectorized. Rows are pooled first, then columns, so that
 * positions keep their order. The border repeats the pixels at the edges of the image. This changes
 * no maximum, because a window that reaches into the border also holds the pixel at the edge.
 */
struct separable {
    const struct max_pool2d *pool;
    size_t size;               /* bytes of an element, and of a position */
    size_t row, map_row;       /* elements of a row with its border, and of a row of outputs */
    size_t block, block_rows;  /* output rows of a block, and input rows that they read */
    char *rows[2], *row_at[2]; /* (row,): values and positions */
    char *maps[2], *map_at[2]; /* (block_rows, map_row): values and positions */
    /* Elements that max_alternate reads of a row, or 0 if that kernel does not pool rows. */
    size_t alternate;
};

/* Returns the largest power of two that is at most n > 0. */
static size_t power_below(size_t n)
{
    size_t power = 1;
    while (power <= n / 2) {
        power *= 2;
    }
    return power;
}

/* True if every window holds a pixel and the border is not much larger than the image. */
static bool is_separable_axis(size_t in, size_t out, size_t kernel, size_t stride, size_t dilation,
                              size_t padding)
{
    return dilation == 1 && padding < kernel && kernel <= 2 * in + 64 && stride <= 2 * in + 64 &&
           (out - 1) * stride < in + padding;
}

static bool is_separable(const struct max_pool2d *p)
{
    return p->out.h > 0 && p->out.w > 0 && p->in.h * p->in.w < INT32_MAX &&
           is_separable_axis(p->in.w, p->out.w, p->kernel.w, p->stride.w, p->dilation.w,
                             p->padding.w) &&
           is_separable_axis(p->in.h, p->out.h, p->kernel.h, p->stride.h, p->dilation.h,
                             p->padding.h);
}

/* Rows are read again soon after they are written, one element further on. Narrow vectors then wait
 * less, unless the processor has whole wide ones. */
static const struct kernels *pool_kernels(void)
{
    const struct kernels *kernels = kernels_current();
    return kernels->is_split ? kernels->narrow : kernels;
}

/* Computes the maxima of 2, 4, 8, ... neighbours that are `step` elements apart, up to the
 * largest power of two that is at most `length`. values[0] holds the n * step elements. Returns the
 * index of the buffer that holds the last maxima. */
static int double_up(const struct separable *s, char *const values[2], char *const positions[2],
                     size_t length, size_t step, size_t n)
{
    max_pairs_kernel *pairs = pool_kernels()->layers[s->pool->compute].max_pairs;
    int in = 0;
    for (size_t width = 1; 2 * width <= length; width *= 2, in = !in) {
        const size_t other = width * step * s->size;
        n -= width;
        pairs(values[!in], positions[!in], values[in], positions[in], values[in] + other,
              positions[in] == NULL ? NULL : positions[in] + other, n * step);
    }
    return in;
}

/* Pools one input row with stride 2, without positions, to row y of the maps. */
static void pool_alternate_row(const struct separable *s, const char *in, size_t row, size_t y)
{
    const struct max_pool2d *p = s->pool;
    const size_t n = smaller(p->in.w, s->row - p->padding.w), first = row * p->in.w;
    const char *from = in + first * s->size;
    if (p->padding.w > 0 || s->row > p->in.w || first + s->alternate > p->in.h * p->in.w) {
        layer_loops[p->compute].repeat_ends(from, n, p->padding.w, s->row - p->padding.w - n, 0,
                                            s->rows[0], NULL);
        from = s->rows[0];
    }
    /* This also writes the beginning of the next row if rows are shorter than a vector. */
    pool_kernels()->elementwise[p->compute].max_alternate(p->out.w, p->kernel.w, from,
                                                          s->maps[0] + y * s->map_row * s->size);
}

/* Writes the maxima of the windows of one input row to row y of the maps. */
static void pool_row(const struct separable *s, const char *in, size_t row, size_t y)
{
    const struct max_pool2d *p = s->pool;
    const struct layer_loops *loops = &layer_loops[p->compute];
    if (s->alternate > 0) {
        pool_alternate_row(s, in, row, y);
        return;
    }
    const size_t length = p->kernel.w, at = y * s->map_row * s->size,
                 n = smaller(p->in.w, s->row - p->padding.w);
    loops->repeat_ends(in + row * p->in.w * s->size, n, p->padding.w, s->row - p->padding.w - n,
                       (int64_t)(row * p->in.w), s->rows[0], s->row_at[0]);
    const int last = double_up(s, s->rows, s->row_at, length, 1, s->row);
    const size_t other = (length - power_below(length)) * s->size, n_all = s->row - length + 1;
    const bool with_positions = s->row_at[0] != NULL, every = p->stride.w == 1;
    char *values = every ? s->maps[0] + at : s->rows[!last], *positions = !with_positions ? NULL
                                                                          : every
                                                                              ? s->map_at[0] + at
                                                                              : s->row_at[!last];
    pool_kernels()->layers[p->compute].max_pairs(
        values, positions, s->rows[last], s->row_at[last], s->rows[last] + other,
        with_positions ? s->row_at[last] + other : NULL, n_all);
    if (!every) {
        loops->every(p->out.w, p->stride.w, values, s->maps[0] + at);
        if (with_positions) { /* elements and positions are equally wide */
            loops->every(p->out.w, p->stride.w, positions, s->map_at[0] + at);
        }
    }
}

/* Computes one output row from `length` rows of the maps, from row y on. With `doubled`, each row
 * of the maps holds the maxima of itself and the rows after it, 2^n rows in all, so two rows
 * suffice. */
static void pool_rows(const struct separable *s, int maps, size_t y, size_t length, bool doubled,
                      char *out, int64_t *indices)
{
    const struct max_pool2d *p = s->pool;
    const size_t line = s->map_row * s->size, step = doubled ? length - power_below(length) : 1;
    const bool with_positions = indices != NULL;
    const char *values = s->maps[maps] + y * line,
               *positions = with_positions ? s->map_at[maps] + y * line : NULL;
    if (!with_positions && !doubled) {
        pool_kernels()->elementwise[p->compute].column_maxima(p->out.w, length, values, s->map_row,
                                                              out);
        return;
    }
    if (length == 1) {
        memcpy(out, values, p->out.w * s->size);
    }
    char *to[2] = {s->rows[0], s->rows[1]};
    for (size_t r = step, i = 0; length > 1 && (r == step || (!doubled && r < length)); r++, i++) {
        const bool last = doubled || r + 1 == length;
        char *position_to = with_positions ? s->row_at[i % 2] : NULL;
        const char *next = s->maps[maps] + (y + r) * line;
        pool_kernels()->layers[p->compute].max_pairs(
            last ? out : to[i % 2], position_to, values, positions, next,
            with_positions ? s->map_at[maps] + (y + r) * line : NULL, p->out.w);
        values = to[i % 2];
        positions = position_to;
    }
    if (with_positions) {
        layer_loops[p->compute].widen_positions(p->out.w, positions, indices);
    }
}

/* Pools one plane, in blocks of output rows. */
static void pool_separable(const struct separable *s, const char *in, char *out, int64_t *indices)
{
    const struct max_pool2d *p = s->pool;
    const size_t length = p->kernel.h, line = p->out.w * s->size;
    for (size_t first = 0; first < p->out.h && !cancel_poll_here(); first += s->block) {
        const size_t count = smaller(s->block, p->out.h - first), top = first * p->stride.h,
                     rows = (count - 1) * p->stride.h + length;
        for (size_t r = 0; r < rows; r++) {
            /* Rows of the border copy the first or the last row, which changes no maximum. */
            const size_t padded = larger(top + r, p->padding.h) - p->padding.h,
                         row = smaller(padded, p->in.h - 1);
            const size_t before = larger(top + r - (r > 0), p->padding.h) - p->padding.h;
            if (r > 0 && smaller(before, p->in.h - 1) == row) {
                const size_t to = r * s->map_row * s->size, bytes = s->map_row * s->size;
                memcpy(s->maps[0] + to, s->maps[0] + to - bytes, bytes);
                if (indices != NULL) {
                    memcpy(s->map_at[0] + to, s->map_at[0] + to - bytes, bytes);
                }
            } else {
                pool_row(s, in, row, r);
            }
        }
        /* Forms maxima of 2^levels rows if that takes fewer steps than a pass over the rows of each
         * window. */
        size_t levels = 0;
        while (2 * ((size_t)1 << levels) <= length) {
            levels++;
        }
        const bool doubled = rows * levels + count < count * (length - 1);
        const int maps = doubled ? double_up(s, s->maps, s->map_at, length, s->map_row, rows) : 0;
        for (size_t y = 0; y < count; y++) {
            pool_rows(s, maps, y * p->stride.h, length, doubled, out + (first + y) * line,
                      indices == NULL ? NULL : indices + (first + y) * p->out.w);
        }
    }
}

/* Sets the sizes and takes the memory. Returns the block of memory, or NULL when there is none. */
static void *separable_begin(struct separable *s, const struct max_pool2d *p)
{
    /* BLOCK_BYTES: limit of the values of the maps. ALTERNATE_WIDTH: the widest windows of
     * max_alternate; for wider ones maxima of pairs take fewer steps. */
    enum { BLOCK_BYTES = 48 << 10, ALTERNATE_WIDTH = 8 };
    struct arena arena = {.block = NULL};
    *s = (struct separable){.pool = p, .size = compute_size(p->compute)};
    s->row = (p->out.w - 1) * p->stride.w + p->kernel.w;
    s->map_row = p->out.w;
    const size_t lanes = layer_lanes(p->compute);
    const bool alternate = p->indices == NULL && p->stride.w == 2 && p->kernel.w <= ALTERNATE_WIDTH;
    s->alternate = alternate ? 2 * larger(p->out.w, lanes) + p->kernel.w : 0;
    const size_t fit = BLOCK_BYTES / (s->map_row * s->size), rows = larger(fit, 3 * p->kernel.h);
    s->block = smaller(larger((rows - p->kernel.h) / p->stride.h, 1), p->out.h);
    s->block_rows = (s->block - 1) * p->stride.h + p->kernel.h;
    while (arena_pass(&arena)) {
        for (int i = 0; i < 2; i++) {
            s->rows[i] =
                arena_take(&arena, larger(larger(s->row, s->alternate), p->out.w), s->size);
            s->maps[i] = arena_take(&arena, s->block_rows * s->map_row + lanes, s->size);
            if (p->indices != NULL) {
                s->row_at[i] = arena_take(&arena, larger(s->row, p->out.w), s->size);
                s->map_at[i] = arena_take(&arena, s->block_rows * s->map_row, s->size);
            }
        }
    }
    return arena.block;
}

/* True if each window covers all columns of an image and lies inside it. Then the pixels of a
 * window are adjacent. */
static bool windows_are_whole_rows(const struct max_pool2d *p)
{
    return p->out.w == 1 && p->kernel.w == p->in.w && p->padding.w == 0 && p->padding.h == 0 &&
           p->dilation.h == 1 && p->dilation.w == 1 && p->out.h > 0 && p->in.w > 0 &&
           (p->out.h - 1) * p->stride.h + p->kernel.h <= p->in.h;
}

static void pool_whole_rows(const struct max_pool2d *p, const char *in, char *out, int64_t *indices)
{
    const size_t size = compute_size(p->compute), n = p->kernel.h * p->in.w;
    for (size_t y = 0; y < p->out.h; y++) {
        const size_t first = y * p->stride.h * p->in.w,
                     at = kernels_current()->elementwise[p->compute].first_maximum(
                         n, in + first * size, indices != NULL, out + y * size);
        if (indices != NULL) {
            indices[y] = (int64_t)(first + at);
        }
    }
}

/* separable is NULL if the windows are not separable. */
static void pool_plane(const struct max_pool2d *p, const struct separable *separable, size_t plane)
{
    const size_t size = compute_size(p->compute), first = plane * p->out.h * p->out.w;
    int64_t *indices = p->indices == NULL ? NULL : p->indices + first;
    const char *in = (const char *)p->input + plane * p->in.h * p->in.w * size;
    char *out = (char *)p->output + first * size;
    if (windows_are_squares(p)) {
        kernels_current()->layers[p->compute].max_pool2x2(out, indices, in, p->in.w, p->out.h,
                                                          p->out.w);
    } else if (windows_are_whole_rows(p)) {
        pool_whole_rows(p, in, out, indices);
    } else if (separable != NULL) {
        pool_separable(separable, in, out, indices);
    } else {
        layer_loops[p->compute].max_pool(p, in, out, indices);
    }
}

void max_pool2d_planes(const struct max_pool2d *p, size_t first, size_t count)
{
    struct separable separable;
    void *memory = NULL;
    if (!windows_are_squares(p) && !windows_are_whole_rows(p) && is_separable(p)) {
        memory = separable_begin(&separable, p);
    }
    /* Without memory, windows are pooled one by one. */
    for (size_t i = 0; i < count; i++) {
        pool_plane(p, memory == NULL ? NULL : &separable, first + i);
    }
    scratch_free(memory);
}

struct max_pool2d_run {
    const struct max_pool2d *pool;
    size_t planes_per_task;
};

static void planes_task(void *context, size_t task, size_t worker)
{
    const struct max_pool2d_run *run = context;
    const size_t first = task * run->planes_per_task;
    (void)worker;
    max_pool2d_planes(run->pool, first, smaller(run->pool->planes - first, run->planes_per_task));
}

void max_pool2d(const struct max_pool2d *p)
{
    /* A task is up to 8 planes, so that it is worth waking a thread for. */
    struct max_pool2d_run run = {p, larger(smaller(p->planes / 64, 8), 1)};
    const size_t windows = size_product_or_max(size_product_or_max(p->planes, p->out.h), p->out.w),
                 tasks = size_parts(p->planes, run.planes_per_task);
    pool_run(tasks,
             thread_count_for(windows, size_product_or_max(p->kernel.h, p->kernel.w), GRAIN_SUMS),
             planes_task, &run, p->token);
}

void max_pool2d_scatter(enum compute_type compute, size_t planes, size_t in, size_t out,
                        const int64_t *indices, const void *gradient, void *input)
{
    const size_t size = compute_size(compute);
    memset(input, 0, planes * in * size);
    for (size_t p = 0; p < planes; p++) {
        layer_loops[compute].scatter(out, indices + p * out,
                                     (const char *)gradient + p * out * size,
                                     (char *)input + p * in * size);
    }
}
