/* SQ8 codes of queries. */
#include "search/coded_queries.h"

#include <math.h>
#include <string.h>

/* Vectors whose elements are all smaller get no codes: the inverse of their scale could overflow.
 */
static const float MIN_CODED = 0x1p-60f;

/* Returns the width of the panel that begins at query `first`: the number of queries for which its
 * codes have room. */
static size_t panel_width(size_t queries, size_t first)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    return queries - first <= kernels->panel_lanes ? kernels->panel_lanes : kernels->panel_queries;
}

/* Returns the bytes of the codes of one panel: of a full one, or of one for the kernel half_panel,
 * whichever takes more. kernels.h has their shapes. */
static size_t panel_bytes(size_t depth)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    const size_t lanes = kernels->panel_lanes, step = 4 * lanes;
    return larger(kernels->panel_queries * size_parts(depth, 4) * 4,
                  2 * lanes * size_parts(HALF_BYTES(depth), step) * step);
}

struct coded_queries coded_queries_take(struct arena *arena, size_t queries, size_t depth, int zero)
{
    const size_t panels = size_parts(queries, kernels_current()->sq8->panel_queries),
                 bytes = scratch_round(panel_bytes(depth));
    struct coded_queries c = {.queries = queries, .depth = depth, .zero = zero};
    c.step = (size_parts(depth, SQ8_PADDING) + 1) * SQ8_PADDING;
    c.codes = arena_take(arena, queries, c.step);
    c.bounds = arena_take(arena, queries, sizeof *c.bounds);
    c.sums = arena_take(arena, queries, sizeof *c.sums);
    c.panels = arena_take(arena, panels, sizeof *c.panels);
    int8_t *codes = arena_take(arena, panels, bytes);
    for (size_t i = 0; codes != NULL && i < panels; i++) {
        c.panels[i].codes = codes + i * bytes;
    }
    return c;
}

/* The largest magnitude of n elements, which are finite. The bits of magnitudes are in the order of
 * the magnitudes; a loop over integers is vectorized by compilers. */
static float largest_magnitude(const float *vector, size_t n)
{
    int32_t largest = 0;
    float magnitude;
    for (size_t k = 0; k < n; k++) {
        int32_t bits;
        memcpy(&bits, vector + k, sizeof bits);
        bits &= INT32_MAX;
        largest = bits > largest ? bits : largest;
    }
    memcpy(&magnitude, &largest, sizeof magnitude);
    return magnitude;
}

/* A panel adds the products of four elements, two from each of two steps, in 16 bits. Returns the
 * largest sum of magnitudes that elements of one sign have within such a group of four. */
static float largest_pairs(const float *vector, size_t n)
{
    enum { STEP = 4, GROUP = 2 * STEP };
    float largest = 0.0f;
    for (size_t k = 0; k < n; k += GROUP) {
        float above[STEP] = {0.0f}, below[STEP] = {0.0f};
        for (size_t i = 0; i < GROUP && k + i < n; i++) {
            const float element = vector[k + i];
            above[i % STEP] += element > 0.0f ? element : 0.0f;
            below[i % STEP] -= element < 0.0f ? element : 0.0f;
        }
        for (size_t i = 0; i < STEP; i += 2) {
            const float a = above[i] + above[i + 1], b = below[i] + below[i + 1];
            largest = a > largest ? a : largest;
            largest = b > largest ? b : largest;
        }
    }
    return largest;
}

double sum_of_squares(const float *vector, size_t n)
{
    double sum;
    kernels_current()->sums->rows[DTYPE_F32][SUMS_SQUARE](
        &(struct sums_call){.x = vector, .rows = 1, .n = n, .sums = &sum});
    return sum;
}

void coded_queries_set(struct coded_queries *c, size_t query, const float *vector, bool finite)
{
    enum { BLOCK = 64 };
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    int8_t *codes = c->codes + query * c->step;
    double squares = 0.0;
    int32_t sum = 0;
    memset(codes, 0, c->step);
    c->sums[query] = 0;
    c->bounds[query] = (struct query_bound){.norm = 1.0f, .residual = INFINITY};
    if (!finite) {
        return;
    }
    const float largest = largest_magnitude(vector, c->depth);
    const bool coded = largest >= MIN_CODED;
    float scale = coded ? largest / (float)kernels->query_code_max : 0.0f;
    /* Up to SQ8_QUERIES queries have no panel, and panels of halves have no sums of two steps. */
    const bool adds_steps = c->queries > SQ8_QUERIES && !c->in_halves && kernels->panel_steps == 2;
    if (coded && adds_steps) {
        /* Rounding adds at most 1/2 to each of the four codes, so subtracting 2 would do. But
         * PANEL_SUM_MAX - 4 is a multiple of four, so the codes of vectors of 0 and 1, or of -1 and
         * 1, are exact. */
        const float of_pairs = largest_pairs(vector, c->depth) / (float)(PANEL_SUM_MAX - 4);
        scale = of_pairs > scale ? of_pairs : scale;
    }
    const float inverse = coded ? 1.0f / scale : 0.0f;
    for (size_t k = 0, n; k < c->depth && coded; k += n) {
        float residuals[BLOCK];
        n = smaller(BLOCK, c->depth - k);
        for (size_t i = 0; i < n; i++) {
            /* Adding and subtracting 1.5 * 2^23 rounds to a whole number, up to query_code_max. */
            const float code = (vector[k + i] * inverse + 0x1.8p23f) - 0x1.8p23f;
            residuals[i] = (float)((double)vector[k + i] - (double)code * scale);
            codes[k + i] = (int8_t)code;
        }
        for (size_t i = 0; i < n; i++) {
            sum += codes[k + i];
        }
        squares += sum_of_squares(residuals, n);
    }
    /*
     * 2^-20 covers the rounding of the residuals and of their norm, 2^-22 that of the vector to
     * float32, and the elements of a vector that is too small for codes. 2^-17, which is multiplied
     * by the norm of a row, covers the rounding of the bound and of the exact score.
     */
    c->bounds[query].residual = (float)(sqrt(squares) * (1.0 + 0x1p-20) + 0x1p-22 + 0x1p-17);
    c->bounds[query].scale = scale;
    c->bounds[query].offset = -c->zero * sum;
    c->sums[query] = sum;
}

static void pack_panel(const struct coded_queries *c, size_t first, struct sq8_panel *panel)
{
    const size_t width = panel_width(c->queries, first), count = smaller(width, c->queries - first);
    int8_t *to = (int8_t *)panel->codes;
    memset(to, 0, panel_bytes(c->depth));
    *panel = (struct sq8_panel){.codes = to, .width = width, .queries = count};
    for (size_t q = 0; q < count; q++) {
        const struct query_bound *bound = c->bounds + first + q;
        const int8_t *codes = c->codes + (first + q) * c->step;
        panel->offset[q] = bound->offset;
        panel->scale[q] = bound->scale;
        panel->norm[q] = bound->norm;
        panel->residual[q] = bound->residual;
        panel->tail[q] = bound->tail;
        const size_t step = 4 * width, bytes = HALF_BYTES(c->depth);
        for (size_t k = 0; c->in_halves && k < bytes; k += step) {
            memcpy(to + (2 * k + q * 4) * width, codes + k, step);
            memcpy(to + (2 * k + q * 4 + step) * width, codes + bytes + k, step);
        }
        for (size_t k = 0; !c->in_halves && k < c->depth; k += 4) { /* codes end with zeros */
            memcpy(to + (k / 4 * width + q) * 4, codes + k, 4);
        }
    }
}

void coded_queries_pack(struct coded_queries *c)
{
    const size_t width = kernels_current()->sq8->panel_queries;
    for (size_t first = 0; first < c->queries; first += width) {
        pack_panel(c, first, c->panels + first / width);
    }
}
