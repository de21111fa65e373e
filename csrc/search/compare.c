/* Compares a chunk of rows with the queries: by SQ8 codes, by rotated heads or as floats. Queues
 * the pairs that are not ruled out. */
#include <math.h>
#include <string.h>

#include "search/prefilter.h"
#include "search/quantize.h"

/* True if the codes of a pair are compared after its heads. */
static bool has_codes(const struct prefilter *p)
{
    return p->search->codes != NULL;
}

/* True if the codes of rows are in halves. */
static bool has_halves(const struct prefilter *p)
{
    return has_codes(p) && !p->rows_are_codes;
}

/* An upper bound of the norm of a row's codes before they are scaled. */
static float longest_codes(const struct prefilter *p)
{
    const float code_max = p->rows_are_codes ? UINT8_MAX : CODE_ZERO - 1;
    return code_max * sqrtf((float)p->plan.depth) * (1.0f + 0x1p-20f);
}

/* Writes the codes of row `row` of an index. */
static void join_code_row(const struct prefilter *p, size_t row, uint8_t *codes)
{
    const size_t depth = p->plan.depth, at = corpus_row(p->search, row) * HALF_BYTES(depth);
    kernels_current()->sq8->join_halves(codes, p->search->codes->upper + at,
                                        p->search->codes->lower + at, depth);
}

/* The bound of a score, as sq8_select_kernel computes it. The row has no tail. */
static float code_bound(int32_t dot, float scale, float norm, float residual,
                        const struct query_bound *q)
{
    return (float)(dot + q->offset) * (scale * q->scale) +
           (residual * q->norm + norm * q->residual);
}

/*
 * Compares the codes of row r of the chunk with those of `count` queries, at most SQ8_QUERIES, and
 * queues the pairs that are not ruled out.
 */
static void compare_pairs(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                          size_t first, size_t r, const size_t *queries, size_t count)
{
    const int8_t *codes[SQ8_QUERIES];
    uint8_t row_codes[SQ8_MAX_DEPTH];
    float scale, norm, residual;
    int32_t dots[SQ8_QUERIES];
    w->first_survivors += count;
    for (size_t i = 0; i < count && !has_codes(p); i++) {
        queue_survivor(p, w, worker, first, r, queries[i]);
    }
    if (!has_codes(p)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        codes[i] = p->coded.codes + queries[i] * p->coded.step;
    }
    bounds_of_rows(p->search->codes->scales + corpus_row(p->search, first + r), NULL, 1,
                   longest_codes(p), &(struct row_bounds){&scale, &norm, &residual, NULL});
    join_code_row(p, first + r, row_codes);
    kernels_current()->sq8->row_dots_u8(dots, row_codes, codes, count, p->plan.depth);
    for (size_t i = 0; i < count; i++) {
        if (!(code_bound(dots[i], scale, norm, residual, p->coded.bounds + queries[i]) <
              pair_threshold(p, w, worker, r, queries[i]))) {
            queue_survivor(p, w, worker, first, r, queries[i]);
        }
    }
}

/* Prefetches the codes of a row that passed the heads or the upper halves. */
static void prefetch_code_row(const struct prefilter *p, size_t row)
{
    const size_t bytes = HALF_BYTES(p->plan.depth), first = corpus_row(p->search, row) * bytes;
    for (size_t at = first; at < first + bytes; at += SCRATCH_ALIGN) {
        __builtin_prefetch(p->search->codes->upper + at);
        __builtin_prefetch(p->search->codes->lower + at);
    }
}

/* Lists the rows of the chunk that w->keep marks. Returns their number. */
static size_t list_kept(const struct prefilter_worker *w, size_t rows, uint16_t *kept)
{
    size_t count = 0;
    for (size_t r = 0; r < rows; r += sizeof(uint64_t)) {
        uint64_t flags;
        memcpy(&flags, w->keep + r, sizeof flags);
        const size_t end = flags == 0 ? r : smaller(r + sizeof flags, rows);
        for (size_t i = r; i < end; i++) {
            kept[count] = (uint16_t)i;
            count += w->keep[i];
        }
    }
    return count;
}

/* Passes on the pairs of one query with the rows of the chunk that w->keep marks. If the heads have
 * marked them and there are codes, compares the codes of these pairs. Otherwise queues the
 * pairs. */
static void pass_rows(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                      size_t first, size_t rows, size_t query, bool after_heads)
{
    uint16_t kept[CHUNK];
    const size_t count = list_kept(w, rows, kept);
    for (size_t i = 0; i < count && after_heads && has_codes(p); i++) {
        prefetch_code_row(p, first + kept[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (after_heads) {
            compare_pairs(p, w, worker, first, kept[i], &query, 1);
        } else {
            queue_survivor(p, w, worker, first, kept[i], query);
        }
    }
}

/* True if row r has the codes of the row before. */
static bool codes_are_equal(const struct sq8_rows *rows, size_t r)
{
    const size_t half = HALF_BYTES(rows->n), *numbers = rows->numbers;
    const size_t row = numbers == NULL ? r : numbers[r],
                 before = numbers == NULL ? r - 1 : numbers[r - 1];
    if (rows->halves[0] == NULL) {
        return memcmp(rows->codes + (ptrdiff_t)row * rows->step,
                      rows->codes + (ptrdiff_t)before * rows->step, rows->n) == 0;
    }
    return memcmp(rows->halves[0] + row * half, rows->halves[0] + before * half, half) == 0 &&
           memcmp(rows->halves[1] + row * half, rows->halves[1] + before * half, half) == 0;
}

/* Finds the rows of a chunk that have the same bytes as the row before. Compares scales first, then
 * codes, then bytes: equal rows have equal scales and codes, and most other rows differ in their
 * scales. */
static void find_repeats(const struct prefilter *p, struct prefilter_worker *w, size_t first,
                         const struct sq8_rows *rows)
{
    const struct float_rows *f = &p->float_rows;
    const struct row_bounds *b = &rows->bounds;
    unsigned any = 0;
    for (size_t r = 1; r < rows->count; r++) { /* compilers vectorize this loop */
        any |= (b->scale[r] == b->scale[r - 1]) & (b->residual[r] == b->residual[r - 1]);
    }
    w->any_repeat = false;
    for (size_t r = 1; any != 0 && p->float_rows.in_place && r < rows->count; r++) {
        if (b->scale[r] == b->scale[r - 1] && b->residual[r] == b->residual[r - 1] &&
            codes_are_equal(rows, r)) {
            const bool equal =
                memcmp(float_rows_data(f, first + r), float_rows_data(f, first + r - 1),
                       f->depth * dtype_size(f->operand->dtype)) == 0;
            w->repeats[r] = equal ? REPEATS : DIFFERS;
            w->any_repeat |= equal;
        }
    }
}

/* A run of equal rows in a chunk. */
struct run {
    const char *start; /* first row of the run */
    uint32_t below;    /* queries of the panel whose score with these rows is below the threshold */
};

/*
 * `bits` marks queries of the panel that begins at `query`. Returns `bits` without the queries
 * whose score with row r of the chunk is known to be below their threshold. It is known if a row
 * with the same bytes has been scored.
 */
static uint32_t not_below(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                          size_t first, size_t r, size_t query, uint32_t bits, struct run *run)
{
    const char *row = float_rows_data(&p->float_rows, first + r);
    if (w->repeats[r] != REPEATS) {
        *run = (struct run){.start = row};
        return bits;
    }
    bits &= ~run->below;
    if (bits != 0) {
        rescore_queue_flush(p, w, worker, first);
    }
    for (uint32_t left = bits; left != 0; left &= left - 1) {
        const int i = __builtin_ctz(left);
        const struct scored *last = w->last + query + i;
        const bool is_of_run = p->float_rows.row_step > 0
                                   ? last->row >= run->start && last->row < row
                                   : last->row <= run->start && last->row > row;
        if (last->row != NULL && is_of_run &&
            last->score < exact_threshold(p, worker, query + (size_t)i)) {
            run->below |= 1u << i;
        }
    }
    return bits & ~run->below;
}

/* Passes on the pairs that w->keep_panel marks, as pass_rows does for one query. `query` is the
 * first query of the panel. */
static void pass_panel(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                       size_t first, size_t rows, size_t query, bool after_heads)
{
    uint16_t kept[CHUNK];
    size_t count = 0;
    for (size_t r = 0; r < rows; r++) { /* not_below() needs all rows of a run */
        kept[count] = (uint16_t)r;
        count += w->any_repeat || w->keep_panel[r] != 0;
    }
    for (size_t i = 0; i < count && after_heads && has_codes(p); i++) {
        prefetch_code_row(p, first + kept[i]);
    }
    struct run run = {.start = NULL};
    for (size_t i = 0; i < count; i++) {
        const size_t r = kept[i];
        uint32_t bits = w->keep_panel[r];
        if (w->any_repeat) {
            bits = not_below(p, w, worker, first, r, query, bits, &run);
        }
        while (bits != 0) {
            size_t queries[SQ8_QUERIES], n = 0;
            for (; bits != 0 && n < SQ8_QUERIES; bits &= bits - 1) {
                queries[n++] = query + (size_t)__builtin_ctz(bits);
            }
            if (after_heads) {
                compare_pairs(p, w, worker, first, r, queries, n);
            }
            for (size_t q = 0; q < n && !after_heads; q++) {
                queue_survivor(p, w, worker, first, r, queries[q]);
            }
        }
    }
}

/*
 * Runs the prefilter on rows [first, first + rows), a chunk that is read as float32. rows_done
 * counts the rows of the task that come before the chunk.
 *
 * Returns how many queries it compared: none if a GEMM is cheaper, else all.
 */
size_t prefilter_rows(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                      size_t first, size_t rows, size_t rows_done)
{
    const size_t depth = p->plan.depth, queries = p->block.queries;
    const float *vectors[COARSE_QUERIES] = {NULL};
    if (gemm_is_cheaper(p, w, rows_done * queries)) {
        return 0;
    }
    for (size_t q = 0; q < queries; q++) {
        vectors[q] = p->unit_queries + q * depth;
    }
    coarse_rows(p, w, first, rows, vectors, queries);
    for (size_t q = 0; q < queries; q++) {
        const float threshold = unit_threshold(p, worker, q);
        const bool positive = exact_threshold(p, worker, q) > 0.0;
        const float *dots = w->dots + q * COARSE_STEP;
        unsigned any = 0;
        for (size_t r = 0; r < rows; r++) {
            const bool zero = w->norms[r] == 0.0f && w->divisors[r] > 0.0f;
            w->keep[r] =
                !is_below(p, dots[r], w->norms[r], w->divisors[r], threshold) & !(zero & positive);
            any |= w->keep[r];
        }
        if (any != 0) {
            pass_rows(p, w, worker, first, rows, q, false);
        }
    }
    return queries;
}

/* Returns the code of 0 in the rows, plus the offset that the kernels add to their elements:
 * scale * (code + offset - zero) is close to x / max(|x|, eps). */
int code_zero(const struct prefilter *p)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    if (!p->rows_are_codes) {
        return CODE_ZERO + kernels->u8_offset;
    }
    return p->float_rows.operand->dtype == DTYPE_I8 ? kernels->i8_offset : kernels->u8_offset;
}

/* Returns the numbers of a chunk's rows, or NULL if the rows follow one another in the corpus. */
static const size_t *numbers_of_chunk(const struct search *s, size_t first, size_t rows)
{
    return run_of_numbers(s->row_numbers, first, rows) == rows ? NULL : s->row_numbers + first;
}

/* A panel computes panel_lanes queries, even if there are fewer. Halves are read once for a panel,
 * and once for SQ8_QUERIES queries row by row. */
bool compares_rows(const struct prefilter *p)
{
    const size_t lanes = kernels_current()->sq8->panel_lanes;
    return p->block.queries <= (has_halves(p) ? SQ8_QUERIES : larger(SQ8_QUERIES, lanes / 2));
}

/*
 * Multiplies a chunk of rows with the next queries, at most SQ8_QUERIES from `query` on. Returns
 * the number of these. squares gets the sums of squares of the rows, if it is not NULL.
 */
static size_t multiply_rows(struct prefilter_worker *w, const struct sq8_rows *rows,
                            const struct coded_queries *queries, size_t query, bool is_signed,
                            int32_t *squares)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const size_t count = smaller(SQ8_QUERIES, queries->queries - query);
    const int8_t *codes[SQ8_QUERIES];
    for (size_t q = 0; q < SQ8_QUERIES; q++) { /* missing queries repeat the first one */
        codes[q] = queries->codes + (query + (q < count ? q : 0)) * queries->step;
    }
    (is_signed ? kernels->dots_i8 : kernels->dots_u8)(w->code_dots, CHUNK, squares, rows, codes,
                                                      count);
    return count;
}

static bool codes_are_signed(const struct prefilter *p)
{
    return p->rows_are_codes && p->float_rows.operand->dtype == DTYPE_I8;
}

/*
 * Returns the codes of a chunk of rows. Makes them if the search has none. If the rows are their
 * own codes and compares_rows() is true, the pass that measures their norms also multiplies them
 * with the first queries. It then writes the products to w->code_dots and sets *has_dots.
 */
static struct sq8_rows codes_of_chunk(const struct prefilter *p, struct prefilter_worker *w,
                                      size_t first, size_t rows, bool *has_dots)
{
    const struct sq8_codes *codes = p->search->codes;
    const struct float_rows *f = &p->float_rows;
    const double eps = p->search->eps;
    const float longest = longest_codes(p);
    struct sq8_rows chunk = {.codes = w->codes,
                             .step = (ptrdiff_t)f->depth,
                             .count = rows,
                             .n = f->depth,
                             .bounds = w->bounds,
                             .thresholds = w->row_thresholds};
    const size_t *numbers = numbers_of_chunk(p->search, first, rows);
    const size_t at = numbers == NULL ? corpus_row(p->search, first) : 0;
    if (p->rows_are_codes) {
        chunk.codes = (const uint8_t *)f->data + (ptrdiff_t)at * f->row_step;
        chunk.step = f->row_step;
        chunk.numbers = numbers;
    }
    if (has_halves(p)) {
        const size_t half = HALF_BYTES(f->depth);
        const bool in_halves = p->coded.in_halves;
        if (in_halves || (numbers == NULL && !compares_rows(p))) {
            chunk.halves[0] = codes->upper + at * half;
            chunk.halves[1] = codes->lower + at * half;
        }
        for (size_t r = 0; chunk.halves[0] == NULL && r < rows; r++) {
            join_code_row(p, first + r, w->codes + r * f->depth);
        }
        if (in_halves) {
            chunk.codes = chunk.halves[0];
            chunk.step = (ptrdiff_t)half;
            chunk.numbers = numbers;
            chunk.more_numbers = p->search->corpus_rows.size - first - rows;
        }
    }
    if (codes != NULL) {
        bounds_of_rows(codes->scales + at, numbers, rows, longest, &w->bounds);
        return chunk;
    }
    if (p->rows_are_codes && compares_rows(p)) {
        int32_t squares[CHUNK];
        multiply_rows(w, &chunk, &p->coded, 0, codes_are_signed(p), squares);
        bounds_of_squares(squares, rows, eps, longest, &w->bounds);
        *has_dots = true;
        return chunk;
    }
    if (p->rows_are_codes) {
        scale_rows(f, first, rows, eps, w->scales);
    } else {
        quantize_rows(f, first, rows, eps, w->codes, w->scales, w->row);
    }
    bounds_of_rows(w->scales, NULL, rows, longest, &w->bounds);
    return chunk;
}

/* Returns the heads of a chunk of rows. */
static struct sq8_rows heads_of_chunk(const struct prefilter *p, struct prefilter_worker *w,
                                      size_t first, size_t rows)
{
    const struct row_heads *heads = p->search->heads;
    const size_t *numbers = numbers_of_chunk(p->search, first, rows);
    const size_t size = heads->rotation.size,
                 at = numbers == NULL ? corpus_row(p->search, first) : 0;
    bounds_of_heads(heads->scales + at, numbers, rows, size, &w->head_bounds);
    return (struct sq8_rows){.codes = heads->codes + at * size,
                             .step = (ptrdiff_t)size,
                             .count = rows,
                             .n = size,
                             .bounds = w->head_bounds,
                             .numbers = numbers,
                             .thresholds = w->row_thresholds};
}

/* The kind of codes that are compared. Pairs that pass HEADS or HALVES are compared by CODES. */
enum comparison_kind { CODES, HEADS, HALVES };

/* The operands of a comparison: the codes of rows and queries, or their heads. */
struct comparison {
    enum comparison_kind kind;
    struct sq8_rows rows;
    const struct coded_queries *queries;
    bool is_signed;
    bool has_dots; /* the products with the first queries are in w->code_dots */
    /* Scales of rows whose codes are in halves; `rows` are then the upper ones, without bounds.
     * Else NULL. */
    const struct code_scale *scales;
};

/* Finds the zero rows of a chunk: each term of their bounds is 0. */
static void find_zero_rows(struct prefilter_worker *w, const struct sq8_rows *rows)
{
    const struct row_bounds *b = &rows->bounds;
    unsigned any = 0;
    for (size_t r = 0; r < rows->count; r++) { /* compilers vectorize this loop */
        any |= b->scale[r] == 0.0f;
    }
    w->any_zero = any != 0;
    any = 0;
    for (size_t r = 0; w->any_zero && r < rows->count; r++) {
        w->zero[r] = b->scale[r] == 0.0f && b->residual[r] == 0.0f && b->norm[r] == 0.0f &&
                     b->tail[r] == 0.0f;
        any |= w->zero[r];
    }
    w->any_zero = any != 0;
}

/* True if zero rows are ruled out for a query, because its threshold is above 0. Scores of zero
 * rows are exactly 0, so the threshold need not be lowered for scores that underflow. */
static bool rules_out_zero(const struct prefilter *p, const struct prefilter_worker *w,
                           size_t worker, size_t query)
{
    return w->any_zero && !p->search->mirrored && exact_threshold(p, worker, query) > 0.0;
}

/* Rows of a chunk that the upper halves of their codes do not rule out for a query. */
struct kept_rows {
    size_t count;
    uint16_t places[CHUNK];          /* [count], in the chunk */
    const struct code_scale *scales; /* of all rows of the chunk */
    const int32_t *upper;            /* products of the query with all upper halves of the chunk */
    const int32_t *lower;            /* [count], products with the lower halves of these rows */
};

/* Compares the codes of these rows with the query, and queues the pairs that are not ruled out. */
static void compare_kept(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                         size_t first, size_t query, const struct kept_rows *kept)
{
    const struct query_bound *bound = p->coded.bounds + query;
    const int32_t offset = kernels_current()->sq8->u8_offset * p->coded.sums[query];
    const bool without_zero = exact_threshold(p, worker, query) > 0.0;
    const float threshold = unit_threshold(p, worker, query);
    for (size_t i = 0; i < kept->count; i++) {
        const size_t r = kept->places[i];
        float scale, norm, residual;
        const struct row_bounds row = {&scale, &norm, &residual, NULL};
        bounds_of_rows(kept->scales + r, NULL, 1, longest_codes(p), &row);
        const bool zero = scale == 0.0f && residual == 0.0f;
        if (!(without_zero && zero) && !(code_bound(16 * kept->upper[r] + kept->lower[i] + offset,
                                                    scale, norm, residual, bound) < threshold)) {
            queue_survivor(p, w, worker, first, r, query);
        }
    }
}

/*
 * Compares the upper halves of a chunk of rows with the next queries, at most SQ8_QUERIES from
 * `query` on, then the lower halves of the rows that are not ruled out, or of all while upper
 * halves are paused.
 */
static void compare_halves(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                           size_t first, const struct comparison *c, size_t query)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const struct coded_queries *queries = &p->coded;
    const size_t count = smaller(SQ8_QUERIES, queries->queries - query), rows = c->rows.count;
    const int8_t *codes[2 * SQ8_QUERIES];
    int32_t lower[SQ8_QUERIES * CHUNK];
    struct kept_rows kept = {.count = rows, .scales = c->scales, .lower = lower};
    size_t numbers[CHUNK];
    struct sq8_rows lower_rows = c->rows;
    for (size_t q = 0; q < 2 * SQ8_QUERIES; q++) { /* missing queries repeat the first one */
        codes[q] = queries->codes + (query + (q < count ? q : 0)) * queries->step;
    }
    kernels->half_dots(w->code_dots, CHUNK, &c->rows, codes, count);
    lower_rows.codes = p->search->codes->lower + (c->rows.codes - p->search->codes->upper);
    if (c->kind == CODES) {
        kernels->half_dots(lower, CHUNK, &lower_rows, codes, count);
        for (size_t r = 0; r < rows; r++) {
            kept.places[r] = (uint16_t)r;
        }
        for (size_t q = 0; q < count; q++) {
            kept.upper = w->code_dots + q * CHUNK;
            kept.lower = lower + q * CHUNK;
            compare_kept(p, w, worker, first, query + q, &kept);
        }
        return;
    }
    for (size_t q = 0; q < count; q++) {
        kept.upper = w->code_dots + q * CHUNK;
        if (!kernels->select_halves(w->keep, kept.upper, c->scales, rows,
                                    queries->bounds + query + q, queries->sums[query + q],
                                    longest_codes(p), unit_threshold(p, worker, query + q))) {
            continue;
        }
        lower_rows.count = kept.count = list_kept(w, rows, kept.places);
        w->first_survivors += lower_rows.count;
        for (size_t i = 0; i < lower_rows.count; i++) {
            numbers[i] = c->rows.numbers == NULL ? kept.places[i] : c->rows.numbers[kept.places[i]];
            prefetch_code_row(p, first + kept.places[i]);
        }
        lower_rows.numbers = numbers;
        lower_rows.more_numbers = 0;
        kernels->half_dots(lower, CHUNK, &lower_rows, codes + q, 1);
        compare_kept(p, w, worker, first, query + q, &kept);
    }
}

/* Compares a chunk with the next queries, at most SQ8_QUERIES from `query` on, row by row. */
static void compare_rows(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                         size_t first, const struct comparison *c, size_t query)
{
    if (c->scales != NULL) {
        compare_halves(p, w, worker, first, c, query);
        return;
    }
    const size_t count = c->has_dots && query == 0
                             ? smaller(SQ8_QUERIES, c->queries->queries)
                             : multiply_rows(w, &c->rows, c->queries, query, c->is_signed, NULL);
    for (size_t q = 0; q < count; q++) {
        if (kernels_current()->sq8->select(w->keep, w->code_dots + q * CHUNK, &c->rows.bounds,
                                           c->rows.count, c->queries->bounds + query + q,
                                           unit_threshold(p, worker, query + q))) {
            const bool without_zero = rules_out_zero(p, w, worker, query + q);
            for (size_t r = 0; without_zero && r < c->rows.count; r++) {
                w->keep[r] &= !w->zero[r];
            }
            pass_rows(p, w, worker, first, c->rows.count, query + q, c->kind != CODES);
        }
    }
}

/* Compares a chunk with the panel of queries that begins at `query`. */
static void compare_panel(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                          size_t first, const struct comparison *c, size_t query)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const struct sq8_panel *panel = c->queries->panels + query / kernels->panel_queries;
    float thresholds[SQ8_PANEL] = {0.0f};
    uint32_t without_zero = 0;
    for (size_t q = 0; q < panel->queries; q++) {
        thresholds[q] = unit_threshold(p, worker, query + q);
        without_zero |= (uint32_t)rules_out_zero(p, w, worker, query + q) << q;
    }
    sq8_panel_kernel *kernel = c->queries->in_halves ? kernels->half_panel
                               : c->is_signed        ? kernels->panel_i8
                                                     : kernels->panel_u8;
    if (kernel(w->keep_panel, &c->rows, panel, thresholds)) {
        for (size_t r = 0; without_zero != 0 && r < c->rows.count; r++) {
            w->keep_panel[r] &= w->zero[r] ? ~without_zero : UINT32_MAX;
        }
        pass_panel(p, w, worker, first, c->rows.count, query, c->kind != CODES);
    }
}

/* Prepares the comparison of a chunk of rows by the halves of their codes. */
static void halves_of_chunk(const struct prefilter *p, struct prefilter_worker *w, size_t first,
                            size_t rows, struct comparison *c)
{
    const struct sq8_codes *codes = p->search->codes;
    const size_t bytes = HALF_BYTES(p->plan.depth);
    const size_t *numbers = numbers_of_chunk(p->search, first, rows);
    const size_t at = numbers == NULL ? corpus_row(p->search, first) : 0;
    c->kind = w->half_pause == 0 ? HALVES : CODES;
    w->half_pause -= w->half_pause > 0;
    c->rows = (struct sq8_rows){.codes = codes->upper + at * bytes,
                                .step = (ptrdiff_t)bytes,
                                .count = rows,
                                .n = p->plan.depth,
                                .numbers = numbers,
                                .more_numbers = p->search->corpus_rows.size - first - rows};
    c->scales = numbers == NULL ? codes->scales + at : w->scales;
    if (numbers == NULL) { /* the scales of the next chunk */
        prefetch_lines((const char *)(c->scales + rows), CHUNK * sizeof *c->scales);
    }
    const size_t last = rows + c->rows.more_numbers - 1;
    for (size_t r = 0; numbers != NULL && r < rows; r++) {
        w->scales[r] = codes->scales[numbers[r]];
        __builtin_prefetch(codes->scales + numbers[smaller(r + CHUNK, last)]);
    }
}

/* Prepares the comparison of a chunk: by its heads, unless heads are paused, else by its codes. */
static struct comparison comparison_of_chunk(const struct prefilter *p, struct prefilter_worker *w,
                                             size_t worker, size_t first, size_t rows)
{
    struct comparison c = {.queries = &p->coded};
    w->first_survivors = 0;
    if (p->use_heads && w->head_pause == 0) {
        c.kind = HEADS;
        c.rows = heads_of_chunk(p, w, first, rows);
        c.queries = &p->heads;
    } else if (p->use_halves) {
        halves_of_chunk(p, w, first, rows, &c);
        w->head_pause -= w->head_pause > 0;
        return c;
    } else {
        c.rows = codes_of_chunk(p, w, first, rows, &c.has_dots);
        c.is_signed = codes_are_signed(p);
        w->head_pause -= w->head_pause > 0;
    }
    find_zero_rows(w, &c.rows);
    for (size_t r = 0; r < rows && p->search->mirrored; r++) {
        w->row_thresholds[r] = row_threshold(p, worker, first + r);
    }
    /* A mirrored search needs the scores of the row as a query too, so a repeated row saves
     * nothing. */
    if (p->block.queries > SQ8_QUERIES && !p->search->mirrored) {
        find_repeats(p, w, first, &c.rows);
    }
    return c;
}

/* Pauses the comparison of heads or halves if more than pairs / gain of the `pairs` pairs passed
 * it. */
static void judge_first(const struct prefilter_worker *w, size_t pairs, size_t gain, size_t first,
                        size_t *pause, size_t *backoff)
{
    const bool pays = w->first_survivors * gain <= pairs;
    *backoff = pays ? 0 : larger(2 * *backoff, first);
    *pause = *backoff;
}

/*
 * Counts the pairs whose codes were compared, and the pairs that passed. If too many passed, the
 * comparison of codes pauses. The first decision comes after CODE_TRIAL rows, because thresholds
 * are low at first.
 */
static void judge_codes(struct prefilter_worker *w, size_t pairs, size_t passed, size_t queries)
{
    w->code_pairs += pairs;
    w->code_passed += passed;
    if (w->code_backoff > 0 || w->code_pairs >= CODE_TRIAL * queries) {
        const bool pays = w->code_passed * MIN_CODE_GAIN <= w->code_pairs;
        w->code_backoff = pays ? 0 : larger(2 * w->code_backoff, CODE_PAUSE);
        w->code_pause = w->code_backoff;
        w->code_pairs = w->code_passed = 0;
    }
}

/*
 * Runs the prefilter on a chunk of SQ8 codes. The arguments and the result are those of
 * prefilter_rows.
 */
size_t prefilter_codes(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                       size_t first, size_t rows, size_t rows_done)
{
    const size_t queries = p->block.queries, width = kernels_current()->sq8->panel_queries,
                 survivors = w->survivors;
    if (gemm_is_cheaper(p, w, rows_done * queries)) {
        return 0;
    }
    struct comparison c = comparison_of_chunk(p, w, worker, first, rows);
    /*
     * In a triangle, the query index of a pair is above its row index. Queries below the first row
     * of the chunk have no pairs with it.
     */
    const size_t lowest = p->block.query;
    const bool by_rows = compares_rows(p);
    const size_t begin = !by_rows && p->block.triangle && first > lowest
                             ? smaller(first - lowest, queries) / width * width
                             : 0;
    const size_t step = by_rows ? SQ8_QUERIES : width;
    for (size_t query = begin; query < queries; query += step) {
        if (gemm_is_cheaper(p, w, rows_done * queries + rows * query)) {
            return query;
        }
        if (by_rows) {
            compare_rows(p, w, worker, first, &c, query);
        } else {
            compare_panel(p, w, worker, first, &c, query);
            c.rows.halves[0] = NULL; /* the first panel has joined the halves */
        }
    }
    if (queries <= COARSE_QUERIES) {
        judge_codes(w, rows * queries, w->survivors - survivors, queries);
    }
    if (c.kind == HEADS) {
        const size_t gain = has_codes(p) ? MIN_HEAD_GAIN : MIN_HEAD_GAIN_NO_CODES;
        judge_first(w, rows * queries, gain, HEAD_PAUSE, &w->head_pause, &w->head_backoff);
    } else if (c.kind == HALVES) {
        judge_first(w, rows * queries, MIN_HALF_GAIN, HALF_PAUSE, &w->half_pause, &w->half_backoff);
    }
    return queries;
}
