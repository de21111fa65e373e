/* Finds the rows of documents that may hold the largest cosine with a row of the query: those whose
 * rough cosine is near the largest rough cosine. */
#include "pairwise/near_rows.h"

#include <math.h>
#include <string.h>

#include "base/scratch.h"

enum {
    MOST_PANELS = 2, /* panels of a query; with more, too few document rows are ruled out */
    /* Rough cosines save time only if a document has at least this many rows for each row of the
     * query. They leave about one row of the document for each row of the query. */
    DOCUMENT_ROWS = 6,
    LEAST_DEPTH = 32 /* shorter rows cost as much as their exact cosines */
};

/* Memory of a worker. */
struct near_scratch {
    char *rows;       /* (ROUGH_ROWS, depth): converted rows */
    int16_t *codes;   /* (ROUGH_ROWS, rough_length(depth)) */
    int32_t *scores;  /* (panels, NEAR_ROWS, ROUGH_COLUMNS) */
    int32_t *largest; /* (panels, ROUGH_COLUMNS): of one document */
    uint8_t *near;    /* (NEAR_ROWS,) */
};

static size_t panels_of(const struct near_rows *n)
{
    return size_parts(n->scores.right, ROUGH_COLUMNS);
}

static size_t panel_length(const struct near_rows *n)
{
    return rough_length(n->scores.plan->depth) * ROUGH_COLUMNS;
}

static void take_scratch(const struct near_rows *n, struct near_scratch *s, struct arena *arena)
{
    const size_t depth = n->scores.plan->depth, panels = panels_of(n);
    s->rows = arena_take(arena, ROUGH_ROWS * depth, sizeof(float));
    s->codes = arena_take(arena, ROUGH_ROWS * rough_length(depth), sizeof *s->codes);
    s->scores = arena_take(arena, panels * NEAR_ROWS * ROUGH_COLUMNS, sizeof *s->scores);
    s->largest = arena_take(arena, panels * ROUGH_COLUMNS, sizeof *s->largest);
    s->near = arena_take(arena, NEAR_ROWS, sizeof *s->near);
}

/* Finds rows [first, first + count) as floats, `step` bytes apart. */
static const char *find_rows(const struct near_rows *n, const struct near_scratch *s,
                             enum side side, size_t first, size_t count, ptrdiff_t *step)
{
    const void *rows[ROUGH_ROWS];
    const size_t depth = n->scores.plan->depth;
    pair_scores_find_rows(
        &n->scores, side, NULL,
        &(struct gemm_rows){0, first, count, 0, depth, 0, s->rows, depth * sizeof(float), rows});
    *step = count == 1 ? 0 : (const char *)rows[1] - (const char *)rows[0];
    return rows[0];
}

/* Packs the codes of the query. Returns whether all of its norms are in the range of codes. */
static bool pack_query(const struct near_rows *n, const struct near_scratch *s)
{
    const size_t depth = n->scores.plan->depth, length = rough_length(depth),
                 right = n->scores.right;
    memset(n->panels, 0, panels_of(n) * panel_length(n) * sizeof *n->panels);
    for (size_t first = 0, count; first < right; first += count) {
        ptrdiff_t step;
        count = smaller(ROUGH_ROWS, right - first);
        const char *rows = find_rows(n, s, SIDE_Y, first, count, &step);
        if (n->kernels->codes(s->codes, rows, step, count, depth, n->scores.call->eps) != 0) {
            return false;
        }
        int16_t *const panel = n->panels + first / ROUGH_COLUMNS * panel_length(n);
        for (size_t r = 0; r < count; r++) {
            const size_t column = (first + r) % ROUGH_COLUMNS;
            for (size_t k = 0; k < length; k++) {
                panel[(k / 2 * ROUGH_COLUMNS + column) * 2 + k % 2] = s->codes[r * length + k];
            }
        }
    }
    return true;
}

/*
 * Returns a bound of the distance of two rough cosines whose order differs from that of the exact
 * ones. The codes of a row differ from x * ROUGH_UNIT / |x| by a vector of norm e: half a unit for
 * each element, and at most 1 for float32 rounding. So a dot product of codes has an error of at
 * most 2 ROUGH_UNIT e + e^2. That of an exact cosine is below 2^-16: see docs/bounds.md.
 */
static int32_t margin_of(size_t depth)
{
    const double e = 0.5 * sqrt((double)depth) + 1.0, unit = ROUGH_UNIT;
    return (int32_t)(2.0 * (2.0 * unit * e + e * e + 0x1p-16 * unit * unit)) + 1;
}

int near_rows_begin(struct near_rows *n, const struct reduction *call, const int64_t *offsets,
                    size_t documents, int workers)
{
    *n = (struct near_rows){.offsets = offsets, .kernels = kernels_current()->rough};
    struct pair_scores *s = &n->scores;
    pair_scores_init(s, call);
    const size_t depth = s->plan->depth;
    if (n->kernels == NULL || s->product != COMPUTE_F32 || s->compute != COMPUTE_F32 ||
        depth < LEAST_DEPTH || depth > ROUGH_DEPTH || s->right == 0 ||
        s->right > MOST_PANELS * ROUGH_COLUMNS || s->left == 0 ||
        s->left / documents < DOCUMENT_ROWS * s->right) {
        return 0;
    }
    struct near_scratch worker;
    struct arena sizes = {.block = NULL}, arena = {.block = NULL};
    take_scratch(n, &worker, &sizes);
    n->scratch_of_worker = sizes.bytes;
    while (arena_pass(&arena)) {
        n->scratch = arena_take(&arena, (size_t)workers, n->scratch_of_worker);
        n->panels = arena_take(&arena, panels_of(n) * panel_length(n), sizeof *n->panels);
    }
    if (arena.block == NULL) {
        return -1;
    }
    take_scratch(n, &worker, &(struct arena){.block = n->scratch});
    if (!pack_query(n, &worker)) {
        near_rows_end(n);
        return 0;
    }
    ptrdiff_t step;
    n->in_place = find_rows(n, &worker, SIDE_X, 0, 1, &step) != worker.rows;
    n->margin = margin_of(depth);
    return 0;
}

void near_rows_end(struct near_rows *n)
{
    scratch_free(n->scratch);
    n->scratch = NULL;
}

/* Computes the rough cosines of rows [first, end) with the query. */
static void multiply(const struct near_rows *n, const struct near_scratch *s, size_t first,
                     size_t end)
{
    const size_t depth = n->scores.plan->depth, panels = panels_of(n);
    const struct reduction *call = n->scores.call;
    for (size_t row = first; row < end; row += ROUGH_ROWS) {
        const size_t count = smaller(ROUGH_ROWS, end - row);
        ptrdiff_t step = n->scores.plan->left.at[0].x;
        const char *rows = call->x.data + (ptrdiff_t)row * step, *next = NULL;
        if (!n->in_place) {
            rows = find_rows(n, s, SIDE_X, row, count, &step);
        } else if (step == (ptrdiff_t)(depth * sizeof(float))) {
            next = rows + ROUGH_ROWS * step;
        }
        unsigned outside = n->kernels->codes(s->codes, rows, step, count, depth, call->eps);
        int32_t *scores = s->scores + (row - first) * ROUGH_COLUMNS;
        for (size_t p = 0; p < panels; p++, scores += NEAR_ROWS * ROUGH_COLUMNS) {
            n->kernels->dots(scores, s->codes, n->panels + p * panel_length(n), depth, next);
            next = NULL;
            for (unsigned rest = outside; rest != 0; rest &= rest - 1) {
                int32_t *const of_row = scores + (size_t)__builtin_ctz(rest) * ROUGH_COLUMNS;
                for (size_t c = 0; c < ROUGH_COLUMNS; c++) {
                    of_row[c] = ROUGH_NONE;
                }
            }
        }
    }
}

/* Sets the largest scores of a document before its first row. Columns that stand for no row of the
 * query get INT32_MAX, which no score comes near. */
static void begin_largest(const struct near_rows *n, int32_t *largest)
{
    for (size_t c = 0; c < panels_of(n) * ROUGH_COLUMNS; c++) {
        largest[c] = c < n->scores.right ? ROUGH_NONE / 4 * 3 : INT32_MAX;
    }
}

size_t near_rows_find(const struct near_rows *n, size_t worker, size_t document, size_t first,
                      size_t end, size_t base, size_t *numbers)
{
    struct near_scratch s;
    size_t found = 0;
    take_scratch(n, &s, &(struct arena){.block = n->scratch + worker * n->scratch_of_worker});
    multiply(n, &s, first, end);
    memset(s.near, 0, end - first);
    for (size_t row = first, next; row < end; row = next, document++) {
        next = smaller(end, (size_t)n->offsets[document + 1]);
        if (row == base || row == (size_t)n->offsets[document]) {
            begin_largest(n, s.largest);
        }
        for (size_t p = 0; p < panels_of(n); p++) {
            n->kernels->near(s.near + (row - first), s.largest + p * ROUGH_COLUMNS,
                             s.scores + (p * NEAR_ROWS + row - first) * ROUGH_COLUMNS, next - row,
                             n->margin);
        }
        for (size_t r = row; r < next; r++) {
            numbers[found] = r - base;
            found += s.near[r - first];
        }
    }
    return found;
}
