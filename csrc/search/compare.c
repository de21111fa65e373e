/* Compares a chunk of rows with the queries: by SQ8 codes, by rotated heads or as floats. Queues
 * the pairs that are not ruled out. */
#include <math.h>
#include <string.h>

#include "search/prefilter.h"
#include "search/quantize.h"

/* Writes the codes of row r of the chunk, in a search that has its codes in halves. */
static void join_code_row(const struct prefilter_worker *w, size_t r, uint8_t *codes)
{
    const struct search *s = w->prefilter->search;
    const size_t depth = s->depth.size, at = corpus_row(s, w->first + r) * HALF_BYTES(depth);
    kernels_current()->sq8->join_halves(codes, s->codes->upper + at, s->codes->lower + at, depth);
}

/* The bound of a score, as sq8_select_kernel computes it. The row has no tail. */
static float code_bound(int32_t dot, float scale, float norm, float residual,
                        const struct query_bound *q)
{
    return (float)(dot + q->offset) * (scale * q->scale) +
           (residual * q->norm + norm * q->residual);
}

/*
 * Takes the pairs of row r of the chunk with `count` queries, at most SQ8_QUERIES, that a
 * comparison has not ruled out. After heads, compares the codes of these pairs if there are codes.
 * Queues the pairs that are not ruled out.
 */
static void pass_pairs(struct prefilter_worker *w, size_t r, const size_t *queries, size_t count)
{
    const struct prefilter *p = w->prefilter;
    const int8_t *codes[SQ8_QUERIES];
    uint8_t row_codes[SQ8_MAX_DEPTH];
    float scale, norm, residual;
    int32_t dots[SQ8_QUERIES];
    w->first_survivors += count;
    if (w->kind != HEADS || !p->has_halves) {
        for (size_t i = 0; i < count; i++) {
            queue_survivor(w, r, queries[i]);
        }
        return;
    }
    for (size_t i = 0; i < count; i++) {
        codes[i] = p->coded.codes + queries[i] * p->coded.step;
    }
    bounds_of_rows(p->search->codes->scales + corpus_row(p->search, w->first + r), NULL, 1,
                   p->longest_codes, &(struct row_bounds){&scale, &norm, &residual, NULL});
    join_code_row(w, r, row_codes);
    kernels_current()->sq8->row_dots_u8(dots, row_codes, codes, count, p->depth);
    for (size_t i = 0; i < count; i++) {
        if (!(code_bound(dots[i], scale, norm, residual, p->coded.bounds + queries[i]) <
              pair_threshold(w, r, queries[i]))) {
            queue_survivor(w, r, queries[i]);
        }
    }
}

/* Prefetches the codes of rows of the chunk that passed the heads or the upper halves. */
static void prefetch_codes(const struct prefilter_worker *w, const uint16_t *rows, size_t count)
{
    const struct search *s = w->prefilter->search;
    const size_t bytes = HALF_BYTES(s->depth.size);
    const bool has_next = w->prefilter->has_halves && (w->kind == HEADS || w->kind == HALVES);
    for (size_t i = 0; i < count && has_next; i++) {
        const size_t at = corpus_row(s, w->first + rows[i]) * bytes;
        prefetch_lines((const char *)s->codes->upper + at, bytes);
        prefetch_lines((const char *)s->codes->lower + at, bytes);
    }
}

/* Lists the rows of the chunk that w->keep marks. Returns their number. */
static size_t list_kept(const struct prefilter_worker *w, uint16_t *kept)
{
    size_t count = 0;
    for (size_t r = 0; r < w->rows; r += sizeof(uint64_t)) {
        uint64_t flags;
        memcpy(&flags, w->keep + r, sizeof flags);
        const size_t end = flags == 0 ? r : smaller(r + sizeof flags, w->rows);
        for (size_t i = r; i < end; i++) {
            kept[count] = (uint16_t)i;
            count += w->keep[i];
        }
    }
    return count;
}

/* Passes on the pairs of one query with the rows of the chunk that w->keep marks. */
static void pass_rows(struct prefilter_worker *w, size_t query)
{
    uint16_t kept[CHUNK];
    const size_t count = list_kept(w, kept);
    prefetch_codes(w, kept, count);
    for (size_t i = 0; i < count; i++) {
        pass_pairs(w, kept[i], &query, 1);
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
static void find_repeats(struct prefilter_worker *w, const struct sq8_rows *rows)
{
    const struct float_rows *f = &w->prefilter->float_rows;
    const struct row_bounds *b = &rows->bounds;
    unsigned any = 0;
    for (size_t r = 1; r < rows->count; r++) { /* compilers vectorize this loop */
        any |= (b->scale[r] == b->scale[r - 1]) & (b->residual[r] == b->residual[r - 1]);
    }
    w->any_repeat = false;
    for (size_t r = 1; any != 0 && f->in_place && r < rows->count; r++) {
        if (b->scale[r] == b->scale[r - 1] && b->residual[r] == b->residual[r - 1] &&
            codes_are_equal(rows, r)) {
            const size_t row = w->first + r;
            const bool equal = memcmp(float_rows_data(f, row), float_rows_data(f, row - 1),
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
static uint32_t not_below(struct prefilter_worker *w, size_t r, size_t query, uint32_t bits,
                          struct run *run)
{
    const struct float_rows *f = &w->prefilter->float_rows;
    const char *row = float_rows_data(f, w->first + r);
    if (w->repeats[r] != REPEATS) {
        *run = (struct run){.start = row};
        return bits;
    }
    bits &= ~run->below;
    if (bits != 0) {
        rescore_queue_flush(w);
    }
    for (uint32_t left = bits; left != 0; left &= left - 1) {
        const int i = __builtin_ctz(left);
        const struct scored *last = w->last + query + i;
        const bool is_of_run = f->row_step > 0 ? last->row >= run->start && last->row < row
                                               : last->row <= run->start && last->row > row;
        if (last->row != NULL && is_of_run && last->score < exact_threshold(w, query + (size_t)i)) {
            run->below |= 1u << i;
        }
    }
    return bits & ~run->below;
}

/* Passes on the pairs that w->keep_panel marks, as pass_rows does for one query. `query` is the
 * first query of the panel. */
static void pass_panel(struct prefilter_worker *w, size_t query)
{
    uint16_t kept[CHUNK];
    size_t count = 0;
    for (size_t r = 0; r < w->rows; r++) { /* not_below() needs all rows of a run */
        kept[count] = (uint16_t)r;
        count += w->any_repeat || w->keep_panel[r] != 0;
    }
    prefetch_codes(w, kept, count);
    struct run run = {.start = NULL};
    for (size_t i = 0; i < count; i++) {
        const size_t r = kept[i];
        uint32_t bits = w->keep_panel[r];
        if (w->any_repeat) {
            bits = not_below(w, r, query, bits, &run);
        }
        while (bits != 0) {
            size_t queries[SQ8_QUERIES], n = 0;
            for (; bits != 0 && n < SQ8_QUERIES; bits &= bits - 1) {
                queries[n++] = query + (size_t)__builtin_ctz(bits);
            }
            pass_pairs(w, r, queries, n);
        }
    }
}

/* Runs the prefilter on a chunk that is read as float32. Returns how many queries it compared: none
 * if a GEMM is cheaper, else all. */
size_t prefilter_rows(struct prefilter_worker *w)
{
    const struct prefilter *p = w->prefilter;
    const size_t depth = p->depth, queries = p->block.queries;
    const float *vectors[COARSE_QUERIES] = {NULL};
    if (gemm_is_cheaper(w, 0)) {
        return 0;
    }
    w->kind = FLOATS;
    for (size_t q = 0; q < queries; q++) {
        vectors[q] = p->unit_queries + q * depth;
    }
    coarse_rows(w, w->first, w->rows, vectors, queries);
    for (size_t q = 0; q < queries; q++) {
        const float threshold = unit_threshold(w, q);
        const bool positive = exact_threshold(w, q) > 0.0;
        const float *dots = w->dots + q * COARSE_STEP;
        unsigned any = 0;
        for (size_t r = 0; r < w->rows; r++) {
            const bool zero = w->norms[r] == 0.0f && w->divisors[r] > 0.0f;
            w->keep[r] =
                !is_below(p, dots[r], w->norms[r], w->divisors[r], threshold) & !(zero & positive);
            any |= w->keep[r];
        }
        if (any != 0) {
            pass_rows(w, q);
        }
    }
    return queries;
}

/* Finds the codes of the next queries, at most SQ8_QUERIES from `query` on, and returns the number
 * of these. `codes` has room for `size` queries; missing ones repeat the first one. */
static size_t find_queries(const struct coded_queries *queries, size_t query, const int8_t **codes,
                           size_t size)
{
    const size_t count = smaller(SQ8_QUERIES, queries->queries - query);
    for (size_t q = 0; q < size; q++) {
        codes[q] = queries->codes + (query + (q < count ? q : 0)) * queries->step;
    }
    return count;
}

/*
 * Multiplies a chunk of rows with the next queries, at most SQ8_QUERIES from `query` on. Returns
 * the number of these. squares gets the sums of squares of the rows, if it is not NULL.
 */
static size_t multiply_rows(struct prefilter_worker *w, const struct sq8_rows *rows,
                            const struct coded_queries *queries, size_t query, int32_t *squares)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const int8_t *codes[SQ8_QUERIES];
    const size_t count = find_queries(queries, query, codes, SQ8_QUERIES);
    (w->prefilter->signed_codes ? kernels->dots_i8 : kernels->dots_u8)(w->code_dots, CHUNK, squares,
                                                                       rows, codes, count);
    return count;
}

/* Returns the chunk as rows of n bytes of an array of the corpus. */
static struct sq8_rows rows_of_array(const struct prefilter_worker *w, const void *data,
                                     ptrdiff_t step, size_t n, const struct row_bounds *bounds)
{
    return (struct sq8_rows){.codes = (const uint8_t *)data + (ptrdiff_t)w->at * step,
                             .step = step,
                             .count = w->rows,
                             .n = n,
                             .bounds = *bounds,
                             .numbers = w->numbers,
                             .more_numbers =
                                 w->prefilter->search->corpus_rows.size - w->first - w->rows,
                             .thresholds = w->row_thresholds};
}

/*
 * Returns the codes of the chunk. Makes them if the search has none. If the rows are their own
 * codes and by_rows is set, the pass that measures their norms also multiplies them with
 * the first queries. It then writes the products to w->code_dots and sets *has_dots.
 */
static struct sq8_rows codes_of_chunk(struct prefilter_worker *w, bool *has_dots)
{
    const struct prefilter *p = w->prefilter;
    const struct sq8_codes *codes = p->search->codes;
    const struct float_rows *f = &p->float_rows;
    const double eps = p->search->eps;
    const size_t depth = f->depth, half = HALF_BYTES(depth);
    struct sq8_rows chunk = {.codes = w->codes,
                             .step = (ptrdiff_t)depth,
                             .count = w->rows,
                             .n = depth,
                             .bounds = w->bounds,
                             .thresholds = w->row_thresholds};
    if (p->rows_are_codes) {
        chunk = rows_of_array(w, f->data, f->row_step, depth, &w->bounds);
    } else if (p->coded.in_halves) {
        chunk = rows_of_array(w, codes->upper, (ptrdiff_t)half, depth, &w->bounds);
    }
    if (p->has_halves) {
        if (p->coded.in_halves || (w->numbers == NULL && !p->by_rows)) {
            chunk.halves[0] = codes->upper + w->at * half;
            chunk.halves[1] = codes->lower + w->at * half;
        }
        for (size_t r = 0; chunk.halves[0] == NULL && r < w->rows; r++) {
            join_code_row(w, r, w->codes + r * depth);
        }
    }
    if (codes != NULL) {
        bounds_of_rows(codes->scales + w->at, w->numbers, w->rows, p->longest_codes, &w->bounds);
        return chunk;
    }
    if (p->rows_are_codes && p->by_rows) {
        int32_t squares[CHUNK];
        multiply_rows(w, &chunk, &p->coded, 0, squares);
        bounds_of_squares(squares, w->rows, eps, p->longest_codes, &w->bounds);
        *has_dots = true;
        return chunk;
    }
    if (p->rows_are_codes) {
        scale_rows(f, w->first, w->rows, eps, w->scales);
    } else {
        quantize_rows(f, w->first, w->rows, eps, w->codes, w->scales, w->row);
    }
    bounds_of_rows(w->scales, NULL, w->rows, p->longest_codes, &w->bounds);
    return chunk;
}

/* Returns the heads of the chunk. */
static struct sq8_rows heads_of_chunk(struct prefilter_worker *w)
{
    const struct row_heads *heads = w->prefilter->search->heads;
    const size_t size = heads->rotation.size;
    bounds_of_heads(heads->scales + w->at, w->numbers, w->rows, size, &w->head_bounds);
    return rows_of_array(w, heads->codes, (ptrdiff_t)size, size, &w->head_bounds);
}

/* The operands of a comparison: the codes of rows and queries, or their heads. */
struct comparison {
    struct sq8_rows rows;
    const struct coded_queries *queries;
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
static bool rules_out_zero(const struct prefilter_worker *w, size_t query)
{
    return w->any_zero && !w->prefilter->search->mirrored && exact_threshold(w, query) > 0.0;
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
static void compare_kept(struct prefilter_worker *w, size_t query, const struct kept_rows *kept)
{
    const struct prefilter *p = w->prefilter;
    const struct query_bound *bound = p->coded.bounds + query;
    const int32_t offset = kernels_current()->sq8->u8_offset * p->coded.sums[query];
    const bool without_zero = exact_threshold(w, query) > 0.0;
    const float threshold = unit_threshold(w, query);
    for (size_t i = 0; i < kept->count; i++) {
        const size_t r = kept->places[i];
        float scale, norm, residual;
        const struct row_bounds row = {&scale, &norm, &residual, NULL};
        bounds_of_rows(kept->scales + r, NULL, 1, p->longest_codes, &row);
        const bool zero = scale == 0.0f && residual == 0.0f;
        if (!(without_zero && zero) && !(code_bound(16 * kept->upper[r] + kept->lower[i] + offset,
                                                    scale, norm, residual, bound) < threshold)) {
            queue_survivor(w, r, query);
        }
    }
}

/*
 * Compares the upper halves of a chunk of rows with the next queries, at most SQ8_QUERIES from
 * `query` on, then the lower halves of the rows that are not ruled out, or of all while upper
 * halves are paused.
 */
static void compare_halves(struct prefilter_worker *w, const struct comparison *c, size_t query)
{
    const struct prefilter *p = w->prefilter;
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const struct coded_queries *queries = &p->coded;
    const int8_t *codes[2 * SQ8_QUERIES];
    const size_t count = find_queries(queries, query, codes, 2 * SQ8_QUERIES), rows = w->rows;
    int32_t lower[SQ8_QUERIES * CHUNK];
    struct kept_rows kept = {.count = rows, .scales = c->scales, .lower = lower};
    size_t numbers[CHUNK];
    struct sq8_rows lower_rows = c->rows;
    kernels->half_dots(w->code_dots, CHUNK, &c->rows, codes, count);
    lower_rows.codes = p->search->codes->lower + (c->rows.codes - p->search->codes->upper);
    if (w->kind == CODES) {
        kernels->half_dots(lower, CHUNK, &lower_rows, codes, count);
        for (size_t r = 0; r < rows; r++) {
            kept.places[r] = (uint16_t)r;
        }
        for (size_t q = 0; q < count; q++) {
            kept.upper = w->code_dots + q * CHUNK;
            kept.lower = lower + q * CHUNK;
            compare_kept(w, query + q, &kept);
        }
        return;
    }
    for (size_t q = 0; q < count; q++) {
        kept.upper = w->code_dots + q * CHUNK;
        if (!kernels->select_halves(w->keep, kept.upper, c->scales, rows,
                                    queries->bounds + query + q, queries->sums[query + q],
                                    p->longest_codes, unit_threshold(w, query + q))) {
            continue;
        }
        lower_rows.count = kept.count = list_kept(w, kept.places);
        w->first_survivors += lower_rows.count;
        for (size_t i = 0; i < lower_rows.count; i++) {
            numbers[i] = w->numbers == NULL ? kept.places[i] : w->numbers[kept.places[i]];
        }
        prefetch_codes(w, kept.places, kept.count);
        lower_rows.numbers = numbers;
        lower_rows.more_numbers = 0;
        kernels->half_dots(lower, CHUNK, &lower_rows, codes + q, 1);
        compare_kept(w, query + q, &kept);
    }
}

/* Compares a chunk with the next queries, at most SQ8_QUERIES from `query` on, row by row. */
static void compare_rows(struct prefilter_worker *w, const struct comparison *c, size_t query)
{
    if (c->scales != NULL) {
        compare_halves(w, c, query);
        return;
    }
    const size_t count = c->has_dots && query == 0
                             ? smaller(SQ8_QUERIES, c->queries->queries)
                             : multiply_rows(w, &c->rows, c->queries, query, NULL);
    for (size_t q = 0; q < count; q++) {
        if (kernels_current()->sq8->select(w->keep, w->code_dots + q * CHUNK, &c->rows.bounds,
                                           w->rows, c->queries->bounds + query + q,
                                           unit_threshold(w, query + q))) {
            const bool without_zero = rules_out_zero(w, query + q);
            for (size_t r = 0; without_zero && r < w->rows; r++) {
                w->keep[r] &= !w->zero[r];
            }
            pass_rows(w, query + q);
        }
    }
}

/* Compares a chunk with the panel of queries that begins at `query`. */
static void compare_panel(struct prefilter_worker *w, const struct comparison *c, size_t query)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const struct sq8_panel *panel = c->queries->panels + query / kernels->panel_queries;
    float thresholds[SQ8_PANEL] = {0.0f};
    uint32_t without_zero = 0;
    for (size_t q = 0; q < panel->queries; q++) {
        thresholds[q] = unit_threshold(w, query + q);
        without_zero |= (uint32_t)rules_out_zero(w, query + q) << q;
    }
    sq8_panel_kernel *kernel = c->queries->in_halves        ? kernels->half_panel
                               : w->prefilter->signed_codes ? kernels->panel_i8
                                                            : kernels->panel_u8;
    if (kernel(w->keep_panel, &c->rows, panel, thresholds)) {
        for (size_t r = 0; without_zero != 0 && r < w->rows; r++) {
            w->keep_panel[r] &= w->zero[r] ? ~without_zero : UINT32_MAX;
        }
        pass_panel(w, query);
    }
}

/* Prepares the comparison of the chunk by the halves of its codes. */
static void halves_of_chunk(struct prefilter_worker *w, struct comparison *c)
{
    const struct prefilter *p = w->prefilter;
    const struct sq8_codes *codes = p->search->codes;
    w->kind = w->half_pause.left == 0 ? HALVES : CODES;
    pause_step(&w->half_pause);
    c->rows = rows_of_array(w, codes->upper, (ptrdiff_t)HALF_BYTES(p->depth), p->depth, &w->bounds);
    c->scales = w->numbers == NULL ? codes->scales + w->at : w->scales;
    if (w->numbers == NULL) { /* the scales of the next chunk */
        prefetch_lines((const char *)(c->scales + w->rows), CHUNK * sizeof *c->scales);
    }
    const size_t last = w->rows + c->rows.more_numbers - 1;
    for (size_t r = 0; w->numbers != NULL && r < w->rows; r++) {
        w->scales[r] = codes->scales[w->numbers[r]];
        __builtin_prefetch(codes->scales + w->numbers[smaller(r + CHUNK, last)]);
    }
}

/* Prepares the comparison of the chunk: by its heads, unless heads are paused, else by its codes.
 */
static struct comparison comparison_of_chunk(struct prefilter_worker *w)
{
    const struct prefilter *p = w->prefilter;
    struct comparison c = {.queries = &p->coded};
    w->first_survivors = 0;
    w->kind = p->use_heads && w->head_pause.left == 0 ? HEADS : CODES;
    pause_step(&w->head_pause);
    if (w->kind == HEADS) {
        c.rows = heads_of_chunk(w);
        c.queries = &p->heads;
    } else if (p->use_halves) {
        halves_of_chunk(w, &c);
        return c;
    } else {
        c.rows = codes_of_chunk(w, &c.has_dots);
    }
    find_zero_rows(w, &c.rows);
    for (size_t r = 0; r < w->rows && p->search->mirrored; r++) {
        w->row_thresholds[r] = row_threshold(w, r);
    }
    /* A mirrored search needs the scores of the row as a query too, so a repeated row saves
     * nothing. */
    if (p->block.queries > SQ8_QUERIES && !p->search->mirrored) {
        find_repeats(w, &c.rows);
    }
    return c;
}

/*
 * Counts the pairs whose codes were compared, and the pairs that passed. If too many passed, the
 * comparison of codes pauses. The first decision comes after CODE_TRIAL rows, because thresholds
 * are low at first.
 */
static void judge_codes(struct prefilter_worker *w, size_t passed, size_t queries)
{
    w->code_pairs += w->rows * queries;
    w->code_passed += passed;
    if (w->code_pause.length > 0 || w->code_pairs >= CODE_TRIAL * queries) {
        pause_unless(w->code_passed * MIN_CODE_GAIN <= w->code_pairs, &w->code_pause, CODE_PAUSE,
                     SIZE_MAX);
        w->code_pairs = w->code_passed = 0;
    }
}

/* Pauses the comparison of heads or halves if more than one pair in `gain` passed it. */
static void judge_first(const struct prefilter_worker *w, size_t gain, size_t first,
                        struct pause *pause)
{
    const size_t pairs = w->rows * w->prefilter->block.queries;
    pause_unless(w->first_survivors * gain <= pairs, pause, first, SIZE_MAX);
}

/* Runs the prefilter on a chunk of SQ8 codes. The result is that of prefilter_rows. */
size_t prefilter_codes(struct prefilter_worker *w)
{
    const struct prefilter *p = w->prefilter;
    const size_t queries = p->block.queries, width = kernels_current()->sq8->panel_queries,
                 survivors = w->survivors;
    if (gemm_is_cheaper(w, 0)) {
        return 0;
    }
    struct comparison c = comparison_of_chunk(w);
    /*
     * In a triangle, the query index of a pair is above its row index. Queries below the first row
     * of the chunk have no pairs with it.
     */
    const size_t lowest = p->block.query;
    const size_t begin = !p->by_rows && p->block.triangle && w->first > lowest
                             ? smaller(w->first - lowest, queries) / width * width
                             : 0;
    const size_t step = p->by_rows ? SQ8_QUERIES : width;
    for (size_t query = begin; query < queries; query += step) {
        if (gemm_is_cheaper(w, query)) {
            return query;
        }
        if (p->by_rows) {
            compare_rows(w, &c, query);
        } else {
            compare_panel(w, &c, query);
            c.rows.halves[0] = NULL; /* the first panel has joined the halves */
        }
    }
    if (queries <= COARSE_QUERIES) {
        judge_codes(w, w->survivors - survivors, queries);
    }
    if (w->kind == HEADS) {
        judge_first(w, p->has_halves ? MIN_HEAD_GAIN : MIN_HEAD_GAIN_NO_CODES, HEAD_PAUSE,
                    &w->head_pause);
    } else if (w->kind == HALVES) {
        judge_first(w, MIN_HALF_GAIN, HALF_PAUSE, &w->half_pause);
    }
    return queries;
}
