/*
 * The loops of avg_pool2d.c over one plane, for one compute type. `sums` is scratch memory for one
 * row of the image, in double, and for the elements that mean_alternate reads beyond it. A row of
 * windows is summed down its columns first, so that the inner loop runs along a row. Parameters,
 * undefined at the end:
 *
 *   ELEMENT        C type of an element
 *   NAME(loop)     name of the loop's function for this type
 */
/* Writes output columns [first, end). */
static void NAME(pool_columns)(const struct avg_pool2d *p, size_t row, size_t first, size_t end,
                               const double *sums, ELEMENT *out)
{
    for (size_t j = first; j < end; j++) {
        double sum = 0.0;
        for (int64_t c = p->columns[j].begin; c < p->columns[j].end; c++) {
            sum += sums[c];
        }
        const bool empty = is_empty(p->rows[row]) || is_empty(p->columns[j]);
        out[j] = empty ? 0 : (ELEMENT)(sum / (p->row_sizes[row] * p->column_sizes[j]));
    }
}

static void NAME(pool)(const struct avg_pool2d *p, struct column_run run, const void *in_void,
                       void *out_void, double *sums)
{
    const struct elementwise_kernels *kernels = &kernels_current()->elementwise[p->compute];
    const ELEMENT *in = in_void;
    ELEMENT *out = out_void;
    for (size_t i = 0; i < p->out.h && !cancel_poll_here(); i++, out += p->out.w) {
        const size_t rows = is_empty(p->rows[i]) ? 0 : (size_t)(p->rows[i].end - p->rows[i].begin);
        kernels->column_totals(p->in.w, rows,
                               in + (rows == 0 ? 0 : (size_t)p->rows[i].begin) * p->in.w, p->in.w,
                               sums);
        NAME(pool_columns)(p, i, 0, run.first, sums, out);
        if (rows == 0) {
            NAME(pool_columns)(p, i, run.first, run.end, sums, out);
        } else if (run.first < run.end) {
            const struct pool_span window = p->columns[run.first];
            kernels->mean_alternate(run.end - run.first, (size_t)(window.end - window.begin),
                                    sums + window.begin,
                                    p->row_sizes[i] * p->column_sizes[run.first], out + run.first);
        }
        NAME(pool_columns)(p, i, run.end, p->out.w, sums, out);
    }
}

static void NAME(spread)(const struct avg_pool2d *p, struct column_run run,
                         const void *gradient_void, void *out_void, double *restrict sums)
{
    (void)run;
    const ELEMENT *gradient = gradient_void;
    ELEMENT *out = out_void;
    memset(out, 0, p->in.h * p->in.w * sizeof *out);
    for (size_t i = 0; i < p->out.h && !cancel_poll_here(); i++, gradient += p->out.w) {
        memset(sums, 0, p->in.w * sizeof *sums);
        for (size_t j = 0; j < p->out.w; j++) {
            const double share = (double)gradient[j] / (p->row_sizes[i] * p->column_sizes[j]);
            for (int64_t c = p->columns[j].begin; c < p->columns[j].end; c++) {
                sums[c] += share;
            }
        }
        for (int64_t r = p->rows[i].begin; r < p->rows[i].end; r++) {
            ELEMENT *restrict row = out + (size_t)r * p->in.w;
            for (size_t c = 0; c < p->in.w; c++) {
                row[c] = (ELEMENT)((double)row[c] + sums[c]);
            }
        }
    }
}

static void NAME(means)(size_t planes, const double *sums, double size, void *out_void)
{
    ELEMENT *out = out_void;
    for (size_t i = 0; i < planes; i++) {
        out[i] = (ELEMENT)(sums[i] / size);
    }
}

static void NAME(fill)(size_t planes, size_t n, const void *gradient_void, double size,
                       void *out_void)
{
    const ELEMENT *gradient = gradient_void;
    ELEMENT *out = out_void;
    for (size_t i = 0; i < planes && !cancel_poll_here(); i++, out += n) {
        const ELEMENT share = (ELEMENT)((double)gradient[i] / size);
        for (size_t k = 0; k < n; k++) {
            out[k] = share;
        }
    }
}

#undef ELEMENT
#undef NAME
