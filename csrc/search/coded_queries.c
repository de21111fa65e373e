/* SQ8 codes of queries. */
#include "search/coded_queries.h"

#include <math.h>
#include <string.h>

#include "base/scratch.h"

/* The queries of a panel after `first`, and the queries that its codes have room for. */
static size_t panel_width(size_t queries, size_t first)
{
    const struct sq8_kernels *kernels = kernels_current()->sq8;
    return queries - first <= kernels->panel_lanes ? kernels->panel_lanes : kernels->panel_queries;
}

static size_t panel_bytes(size_t depth)
{
    return kernels_current()->sq8->panel_queries * size_parts(depth, 4) * 4;
}

static size_t panels_of(size_t queries)
{
    return size_parts(queries, kernels_current()->sq8->panel_queries);
}

static size_t code_step(size_t depth)
{
    return size_parts(depth, SQ8_PADDING) * SQ8_PADDING;
}

size_t coded_queries_size(size_t queries, size_t depth)
{
    return scratch_round(queries * code_step(depth)) +
           scratch_round(queries * sizeof(struct query_bound)) +
           scratch_round(panels_of(queries) * sizeof(struct sq8_panel)) +
           panels_of(queries) * scratch_round(panel_bytes(depth));
}

struct coded_queries coded_queries_at(char *memory, size_t queries, size_t depth, int zero)
{
    struct coded_queries c = {.queries = queries, .depth = depth, .zero = zero};
    const size_t panels = panels_of(queries);
    c.step = code_step(depth);
    c.codes = (int8_t *)memory;
    c.bounds = (struct query_bound *)(memory += scratch_round(queries * c.step));
    c.panels = (struct sq8_panel *)(memory += scratch_round(queries * sizeof *c.bounds));
    memory += scratch_round(panels * sizeof *c.panels);
    for (size_t i = 0; i < panels; i++, memory += scratch_round(panel_bytes(depth))) {
        c.panels[i].codes = (int8_t *)memory;
    }
    return c;
}

void coded_queries_set(struct coded_queries *c, size_t query, const float *vector, bool finite)
{
    const double code_max = kernels_current()->sq8->query_code_max;
    int8_t *codes = c->codes + query * c->step;
    double largest = 0.0, square = 0.0;
    int32_t sum = 0;
    memset(codes, 0, c->step);
    c->bounds[query] = (struct query_bound){.norm = 1.0f, .residual = INFINITY};
    if (!finite) {
        return;
    }
    for (size_t k = 0; k < c->depth; k++) {
        largest = fmax(largest, fabs((double)vector[k]));
    }
    const double scale = (double)(float)(largest / code_max);
    const size_t coded = scale > 0.0 ? c->depth : 0;
    for (size_t k = 0; k < coded; k++) {
        const double code = fmax(-code_max, fmin(code_max, rint(vector[k] / scale))),
                     residual = vector[k] - code * scale;
        codes[k] = (int8_t)code;
        square += residual * residual;
        sum += codes[k];
    }
    /*
     * 2^-20 covers the rounding of the norm, 2^-22 that of the vector to float32, and the elements
     * of a vector that is too small for codes. 2^-17, which is multiplied by the norm of a row,
     * covers the rounding of the bound and of the exact score.
     */
    c->bounds[query].residual = (float)(sqrt(square) * (1.0 + 0x1p-20) + 0x1p-22 + 0x1p-17);
    c->bounds[query].scale = (float)scale;
    c->bounds[query].offset = -c->zero * sum;
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
        for (size_t k = 0; k < c->depth; k++) {
            to[(k / 4 * width + q) * 4 + k % 4] = codes[k];
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
