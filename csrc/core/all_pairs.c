/*
 * The tiles driver's use for vectors: x.y or the cosine of every left row with every right row. Rows go into the product
 * as they are, scaled by a power of two (which is exact) where their norm is far from 1, so integers and binary vectors
 * keep exact sums; the norms come in when a sum is finished.
 */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "core/formula.h"
#include "core/reduce.h"
#include "core/row_sums.h"
#include "core/tiles.h"

enum {
    NORM_ROWS = 1 << 16, /* rows whose norms are held at a time, but for self-pairs of more */
    NORM_TASK = 64,      /* rows whose norms one task takes */
    CACHE_LINE = 64,
    CACHED_SCORES = 1 << 18 /* scores of a batch that are in the L2 cache anyway when they are written */
};

/*
 * Scores this close to 1 are calculated again in double from the rows themselves: there a rounding error would push
 * them past 1 or tell identical rows apart. The margins are larger than the product's own error.
 */
static const double near_f32 = 1.0 - 0x1p-17, near_f64 = 1.0 - 1e-13;

/* What the finish needs of a row. */
struct norms {
    double *weight; /* 1 / max(|row|, eps) for float32, max(|row|, eps) for float64, of the scaled row */
    int *exponent;  /* the row goes into the product times 2^-exponent */
};

/* Sums of the left rows row .. row+rows-1 with the right rows column .. column+columns-1. */
struct tile {
    size_t row, rows, column, columns;
    const double *sums;
    size_t step; /* from row to row */
};

struct driver {
    const struct reduction *call;
    const struct plan *plan;
    enum work work;       /* of scores: float only where they are rounded to float in the end, so that nothing is rounded twice */
    enum work product;    /* of the rows in the product: float for narrow floats, and for 8-bit integers, whose sums it holds exactly */
    bool symmetric;
    bool cosine;          /* OP_COSINE or OP_DISTANCE, which need norms */
    bool direct;          /* scores go straight into out: cosines of the work type, contiguous along the right rows */
    size_t first_batch;   /* batches are taken in groups, to bound the memory of norms */
    size_t left, right;   /* rows of a batch */
    struct norms x, y;
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static const char *row_address(const struct driver *d, enum side side, size_t batch, size_t row)
{
    struct offsets outer = axes_offsets(&d->plan->outer, d->first_batch + batch);
    struct offsets inner = axes_offsets(side == SIDE_X || d->symmetric ? &d->plan->left : &d->plan->right, row);
    if (side == SIDE_X || d->symmetric) {
        return d->call->x.data + outer.x + inner.x;
    }
    return d->call->y.data + outer.y + inner.y;
}

/* n elements of a row from k on, brought to the type of the product and scaled. */
static void convert_row(const struct driver *d, enum side side, const char *from, int exponent, size_t k, size_t n, void *buffer)
{
    gather_row(side == SIDE_X ? &d->call->x : &d->call->y, from, &d->plan->reduced, side, k, n, d->product, buffer);
    for (size_t i = 0; exponent != 0 && i < n; i++) {
        if (d->product == WORK_F64) {
            ((double *)buffer)[i] = ldexp(((double *)buffer)[i], -exponent);
        } else {
            ((float *)buffer)[i] = ldexpf(((float *)buffer)[i], -exponent);
        }
    }
}

/* Rows in place where they are contiguous elements of the product and not to be scaled. exponents: of the rows of the batch, or NULL. */
static void find_rows(const struct driver *d, enum side side, const int *exponents, const struct tiles_rows *wanted)
{
    const struct operand *operand = side == SIDE_X ? &d->call->x : &d->call->y;
    const struct axes *reduced = &d->plan->reduced;
    const ptrdiff_t stride = reduced->count == 0 ? 0 : side == SIDE_X ? reduced->at[0].x : reduced->at[0].y;
    const bool in_place = operand->dtype == (enum dtype)work_element(d->product) && operand_in_place(operand) &&
                          (stride == (ptrdiff_t)work_size(d->product) || d->plan->depth == 1);
    for (size_t r = 0; r < wanted->count; r++) {
        const size_t row = wanted->first + r;
        const char *from = row_address(d, side, wanted->batch, row);
        const int exponent = exponents == NULL ? 0 : exponents[row];
        if (in_place && exponent == 0) {
            wanted->rows[r] = from + (ptrdiff_t)wanted->k * stride;
        } else {
            char *to = wanted->buffers + r * wanted->stride;
            convert_row(d, side, from, exponent, wanted->k, wanted->n, to);
            wanted->rows[r] = to;
        }
    }
}

static void left_rows(const void *context, const struct tiles_rows *wanted)
{
    const struct driver *d = context;
    find_rows(d, SIDE_X, d->cosine ? d->x.exponent + wanted->batch * d->left : NULL, wanted);
}

static void right_rows(const void *context, const struct tiles_rows *wanted)
{
    const struct driver *d = context;
    find_rows(d, d->symmetric ? SIDE_X : SIDE_Y, d->cosine ? d->y.exponent + wanted->batch * d->right : NULL, wanted);
}

static struct row_pair pair_of(const struct driver *d, enum side left, size_t i, enum side right, size_t j, size_t batch, enum sums kind)
{
    const struct operand *x = left == SIDE_X ? &d->call->x : &d->call->y;
    struct row_pair pair = {x, d->symmetric ? &d->call->x : &d->call->y, row_address(d, left, batch, i), row_address(d, right, batch, j),
                            &d->plan->reduced, d->plan->depth, d->product, kind};
    return pair;
}

/* Rows of such a square go into the product as they are: neither their products nor the square of another such row leave the range. */
static bool square_is_near_1(enum work work, double square)
{
    return work == WORK_F32 ? square >= 0x1p-80 && square <= 0x1p80 : square_is_safe(square);
}

/* Sum of squares and exponent of one row of any kind. */
static void measure(const struct driver *d, enum side side, size_t batch, size_t row, double *weight, int *exponent)
{
    /* row_sums reads its x with the reduced axes' x strides, so a right row is handed to it as a plan of its own */
    struct axes reduced = d->plan->reduced;
    for (int i = 0; side == SIDE_Y && i < reduced.count; i++) {
        reduced.at[i].x = reduced.at[i].y;
    }
    const struct operand *operand = side == SIDE_X ? &d->call->x : &d->call->y;
    const char *from = row_address(d, side, batch, row);
    struct row_pair pair = {operand, NULL, from, NULL, &reduced, d->plan->depth, d->product, SUMS_SQUARE};
    struct row_sums sums = row_sums_of(&pair);
    if (d->product == WORK_F32 && !square_is_near_1(WORK_F32, sums.xx) && sums.xx > 0.0 && isfinite(sums.xx)) {
        sums.x_exponent = ilogb(sqrt(sums.xx));
        sums.xx = ldexp(sums.xx, -2 * sums.x_exponent);
    }
    double norm = formula_clamped_norm(sums.xx, ldexp(d->call->eps, -sums.x_exponent));
    *weight = d->work == WORK_F32 ? 1.0 / norm : norm;
    *exponent = sums.x_exponent;
}

struct measuring {
    const struct driver *driver;
    enum side side;
    size_t rows; /* of all batches of the group */
    const struct norms *norms;
};

/*
 * The sums of squares of n rows of one batch, by the kernels where they lie: in one go if they are evenly spaced, with the bits
 * that measure() gives. False where the rows are not of the kernels' types, not contiguous, or too long.
 */
static bool squares_in_place(const struct driver *d, enum side side, size_t batch, size_t first, size_t n, double *squares)
{
    const struct operand *operand = side == SIDE_X ? &d->call->x : &d->call->y;
    const struct axes *rows = side == SIDE_X || d->symmetric ? &d->plan->left : &d->plan->right, *reduced = &d->plan->reduced;
    const ptrdiff_t item = (ptrdiff_t)dtype_size(operand->dtype);
    const bool contiguous = reduced->count == 1 && (side == SIDE_X ? reduced->at[0].x : reduced->at[0].y) == item;
    if (!contiguous || d->plan->depth > ROW_BLOCK || !operand_in_place(operand)) {
        return false;
    }
    rows_kernel *kernel = kernels_current()->sums->rows[operand->dtype][SUMS_SQUARE];
    const size_t run = rows->count == 1 ? n : 1;
    const ptrdiff_t step = rows->count != 1 ? 0 : side == SIDE_X || d->symmetric ? rows->at[0].x : rows->at[0].y;
    for (size_t i = 0; i < n; i += run) {
        kernel(NULL, squares + i, NULL, row_address(d, side, batch, first + i), NULL, run, d->plan->depth, step, 0);
    }
    return true;
}

static void measure_some(void *context, size_t task, size_t worker)
{
    const struct measuring *m = context;
    const struct driver *d = m->driver;
    const size_t in_batch = m->side == SIDE_X ? d->left : d->right, end = smaller(m->rows, (task + 1) * NORM_TASK);
    (void)worker;
    for (size_t first = task * NORM_TASK, n; first < end; first += n) {
        const size_t batch = first / in_batch, in = first % in_batch;
        double squares[NORM_TASK];
        n = smaller(end - first, in_batch - in);
        const bool in_place = squares_in_place(d, m->side, batch, in, n, squares);
        for (size_t i = 0; i < n; i++) {
            double *weight = &m->norms->weight[first + i];
            if (in_place && square_is_near_1(d->product, squares[i])) {
                const double norm = formula_clamped_norm(squares[i], d->call->eps);
                *weight = d->work == WORK_F32 ? 1.0 / norm : norm;
                m->norms->exponent[first + i] = 0;
            } else {
                measure(d, m->side, batch, in + i, weight, &m->norms->exponent[first + i]);
            }
        }
    }
}

/* The score of one pair in double, straight from the rows. */
static double cosine_again(const struct driver *d, size_t batch, size_t i, size_t j)
{
    struct row_pair pair = pair_of(d, SIDE_X, i, d->symmetric ? SIDE_X : SIDE_Y, j, batch, SUMS_ALL);
    struct row_sums sums = row_sums_of(&pair);
    return formula_cosine(sums.xy, sums.xx, sums.yy, ldexp(d->call->eps, -sums.x_exponent), ldexp(d->call->eps, -sums.y_exponent));
}

/* Is the cosine of row i with itself 1 without further ado? Not if its norm is clamped, infinite or NaN. */
static bool scores_1_with_itself(const struct driver *d, size_t row)
{
    const double weight = d->x.weight[row], norm = d->work == WORK_F32 ? 1.0 / weight : weight;
    const int exponent = d->x.exponent[row];
    const double eps = exponent == 0 ? d->call->eps : ldexp(d->call->eps, -exponent);
    return isfinite(norm) && norm > eps * (1.0 + 1e-12);
}

/* The scores of a tile as work elements; out_step elements from row to row. */
static void cosines(const struct driver *d, size_t batch, const struct tile *t, void *out, ptrdiff_t out_step)
{
    const struct kernels *kernels = kernels_current();
    const double *rows = d->x.weight + batch * d->left + t->row, *columns = d->y.weight + batch * d->right + t->column;
    const bool f64 = d->work == WORK_F64;
    const double near = d->product == WORK_F64 ? near_f64 : near_f32;
    uint32_t found[TILES_MAX_ROWS * TILES_MAX / COSINE_STEP + 1];
    const size_t count = f64 ? kernels->cosine_f64(out, out_step, t->sums, t->step, rows, t->rows, columns, t->columns, near, found)
                             : kernels->cosine_f32(out, out_step, t->sums, t->step, rows, t->rows, columns, t->columns, near, found);
    for (size_t f = 0; f < count; f++) {
        const size_t r = found[f] >> 16, i = t->row + r;
        for (uint32_t bits = found[f] & 0xff; bits != 0; bits &= bits - 1) {
            const size_t c = (found[f] >> 8 & 0xff) + (size_t)__builtin_ctz(bits), j = t->column + c;
            const bool same = d->symmetric && i == j && scores_1_with_itself(d, batch * d->left + i);
            const double score = same ? 1.0 : cosine_again(d, batch, i, j);
            if (f64) {
                ((double *)out)[(ptrdiff_t)r * out_step + (ptrdiff_t)c] = score;
            } else {
                ((float *)out)[(ptrdiff_t)r * out_step + (ptrdiff_t)c] = (float)score;
            }
        }
    }
}

/* A few scores. A memcpy of a length that is not known takes longer to start than this does altogether. */
static void copy_scores(char *to, const char *from, size_t bytes)
{
    enum { STEP = 32 };
    if (bytes < STEP) {
        for (size_t i = 0; i < bytes; i += sizeof(float)) {
            memcpy(to + i, from + i, sizeof(float));
        }
        return;
    }
    for (size_t i = 0; i + STEP <= bytes; i += STEP) {
        memcpy(to + i, from + i, STEP);
    }
    memcpy(to + bytes - STEP, from + bytes - STEP, STEP);
}

/*
 * A tile of a symmetric result and its mirror image, from scores `step` elements from row to row to where row 0 and column 0
 * of the result lie. Of a tile on the diagonal only what is on and above it counts, so that each element is written once.
 */
static void store_symmetric(const struct driver *d, const struct tile *t, const char *scores, size_t step, char *out, ptrdiff_t row_step)
{
    const struct kernels *kernels = kernels_current();
    const size_t item = work_size(d->work);
    transpose_kernel *transpose = d->work == WORK_F64 ? kernels->transpose_f64 : kernels->transpose_f32;
    _Alignas(64) double turned[TILES_MAX * TILES_MAX_ROWS];
    const void *rows[TILES_MAX_ROWS];
    for (size_t r = 0; r < t->rows; r++) {
        const size_t i = t->row + r, skip = i > t->column ? smaller(i - t->column, t->columns) : 0;
        rows[r] = scores + r * step * item;
        copy_scores(out + (ptrdiff_t)i * row_step + (ptrdiff_t)((t->column + skip) * item), (const char *)rows[r] + skip * item,
                    (t->columns - skip) * item);
    }
    char *mirror = out + (ptrdiff_t)t->column * row_step + (ptrdiff_t)(t->row * item);
    transpose(turned, TILES_MAX_ROWS, rows, t->rows, t->columns);
    for (size_t c = 0; c < t->columns; c++) {
        const size_t j = t->column + c, above = j > t->row ? smaller(j - t->row, t->rows) : 0;
        copy_scores(mirror + (ptrdiff_t)c * row_step, (const char *)turned + c * TILES_MAX_ROWS * item, above * item);
    }
}

/* n scores of one row from column j on, as elements of `work` or as doubles, in any layout and dtype; and their mirror image. */
static void store_row(const struct driver *d, enum work work, const void *scores, size_t i, size_t j, size_t n, char *out)
{
    const struct axes *left = &d->plan->left, *right = &d->plan->right;
    const enum dtype dtype = d->call->out_dtype;
    const size_t size = work_size(work);
    char *row = out + axes_offsets(left, i).out;
    if (right->count == 1) {
        dtype_store_work(dtype, row + (ptrdiff_t)j * right->at[0].out, right->at[0].out, work, scores, n);
    } else {
        for (size_t c = 0; c < n; c++) {
            dtype_store_work(dtype, row + axes_offsets(right, j + c).out, 0, work, (const char *)scores + c * size, 1);
        }
    }
    if (d->symmetric) { /* j >= i: the mirror image, but for the diagonal itself */
        const size_t skip = j == i;
        char *mirror = out + axes_offsets(left, j + skip).out + axes_offsets(right, i).out;
        dtype_store_work(dtype, mirror, left->at[0].out, work, (const char *)scores + skip * size, n - skip);
    }
}

/* Asks for the cache lines that begin in some rows of the result, to write to them. */
static void prefetch_rows(const char *rows, ptrdiff_t step, size_t count, size_t bytes)
{
    for (size_t r = 0; r < count; r++, rows += step) {
        const char *line = rows + (-(uintptr_t)rows & (CACHE_LINE - 1));
        for (; line < rows + bytes; line += CACHE_LINE) {
            __builtin_prefetch(line, 1);
        }
    }
}

/* A store that misses the cache waits for memory, and soon all that follow wait for it. */
static void expect_tile(const void *context, size_t batch, size_t row, size_t rows, size_t column, size_t columns)
{
    const struct driver *d = context;
    const size_t item = work_size(d->work);
    const ptrdiff_t row_step = d->plan->left.at[0].out;
    char *out = d->call->out + axes_offsets(&d->plan->outer, d->first_batch + batch).out;
    prefetch_rows(out + (ptrdiff_t)row * row_step + (ptrdiff_t)(column * item), row_step, rows, columns * item);
    if (d->symmetric) {
        prefetch_rows(out + (ptrdiff_t)column * row_step + (ptrdiff_t)(row * item), row_step, columns, rows * item);
    }
}

static void finish_tile(const void *context, size_t batch, size_t row, size_t rows, size_t column, size_t columns, const double *sums, size_t step)
{
    const struct driver *d = context;
    const struct tile t = {row, rows, column, columns, sums, step};
    char *out = d->call->out + axes_offsets(&d->plan->outer, d->first_batch + batch).out;
    _Alignas(64) double buffer[TILES_MAX_ROWS * TILES_MAX];
    if (d->direct) {
        const ptrdiff_t item = (ptrdiff_t)work_size(d->work), row_step = d->plan->left.at[0].out;
        if (d->symmetric) {
            cosines(d, batch, &t, buffer, (ptrdiff_t)columns);
            store_symmetric(d, &t, (const char *)buffer, columns, out, row_step);
        } else {
            cosines(d, batch, &t, out + (ptrdiff_t)row * row_step + (ptrdiff_t)column * item, row_step / item);
        }
        return;
    }
    const void *scores = sums;
    if (d->cosine) {
        scores = buffer;
        step = columns;
        cosines(d, batch, &t, buffer, (ptrdiff_t)columns);
    }
    for (size_t i = 0; d->call->op == OP_DISTANCE && i < rows * columns; i++) {
        buffer[i] = 1.0 - buffer[i];
    }
    const enum work work = d->cosine ? d->work : WORK_F64;
    for (size_t r = 0; r < rows; r++) {
        const size_t i = row + r, skip = d->symmetric && i > column ? i - column : 0;
        if (skip < columns) {
            store_row(d, work, (const char *)scores + (r * step + skip) * work_size(work), i, column + skip, columns - skip, out);
        }
    }
}

/* May scores be written as the kernels give them? With the left rows whole elements apart, in one axis. */
static bool writes_direct(const struct driver *d)
{
    const ptrdiff_t item = (ptrdiff_t)work_size(d->work);
    return d->call->op == OP_COSINE && d->call->out_dtype == (enum dtype)work_element(d->work) && d->plan->right.count == 1 &&
           d->plan->right.at[0].out == item && d->plan->left.count == 1 && d->plan->left.at[0].out % item == 0;
}

static int run_group(struct driver *d, size_t batches)
{
    if (d->cosine) {
        struct measuring x = {d, SIDE_X, batches * d->left, &d->x}, y = {d, SIDE_Y, batches * d->right, &d->y};
        pool_run((x.rows + NORM_TASK - 1) / NORM_TASK, threads_for(x.rows, d->plan->depth, WORK_OF_SUMS), measure_some, &x);
        if (!d->symmetric) {
            pool_run((y.rows + NORM_TASK - 1) / NORM_TASK, threads_for(y.rows, d->plan->depth, WORK_OF_SUMS), measure_some, &y);
        }
    }
    struct tiles tiles = {
        .work = d->product,
        .batches = batches,
        .left = d->left,
        .right = d->right,
        .depth = d->plan->depth,
        .symmetric = d->symmetric,
        .left_rows = left_rows,
        .right_rows = right_rows,
        .finish = finish_tile,
        .expect = d->direct && d->left * d->right > CACHED_SCORES ? expect_tile : NULL,
        .context = d,
    };
    return tiles_run(&tiles);
}

/* Are both sides the very same rows? */
static bool sides_are_the_same(const struct reduction *call)
{
    const struct plan *plan = call->plan;
    const struct operand *x = &call->x, *y = &call->y;
    bool same = x->data == y->data && x->dtype == y->dtype && x->swapped == y->swapped && plan->left.count == 1 && plan->right.count == 1;
    same = same && plan->left.at[0].size == plan->right.at[0].size && plan->left.at[0].x == plan->right.at[0].y;
    for (int i = 0; i < plan->reduced.count; i++) {
        same = same && plan->reduced.at[i].x == plan->reduced.at[i].y;
    }
    for (int i = 0; i < plan->outer.count; i++) {
        same = same && plan->outer.at[i].x == plan->outer.at[i].y;
    }
    return same;
}

/* Half of a side at a time: a score does not depend on its neighbours, and the memory for norms stays bounded. */
static int halve(const struct reduction *call, bool left_side)
{
    struct plan plan = *call->plan;
    struct reduction part = *call;
    struct axis *axis = left_side ? &plan.left.at[0] : &plan.right.at[0];
    const size_t size = axis->size, half = size / 2;
    const ptrdiff_t skip = (ptrdiff_t)half;
    part.plan = &plan;
    axis->size = half;
    plan.outputs = plan.outputs / size * half;
    const int status = reduce_all_pairs(&part);
    axis->size = size - half;
    plan.outputs = call->plan->outputs - plan.outputs;
    part.x.data += skip * axis->x;
    part.y.data += skip * axis->y;
    part.out += skip * axis->out;
    return status < 0 ? status : reduce_all_pairs(&part);
}

int reduce_all_pairs(const struct reduction *call)
{
    struct driver d = {.call = call, .plan = call->plan, .symmetric = sides_are_the_same(call), .cosine = call->op != OP_DOT};
    const bool narrow = dtype_work(call->x.dtype) == WORK_F32 && dtype_work(call->y.dtype) == WORK_F32;
    d.work = narrow && call->op == OP_COSINE && call->out_dtype == DTYPE_F32 ? WORK_F32 : WORK_F64;
    d.product = narrow || (dtype_size(call->x.dtype) == 1 && dtype_size(call->y.dtype) == 1) ? WORK_F32 : WORK_F64;
    d.direct = writes_direct(&d);
    d.left = axes_size(&d.plan->left);
    d.right = axes_size(&d.plan->right);
    const bool left_side = d.left >= d.right;
    if (!d.symmetric && (left_side ? d.left : d.right) > NORM_ROWS && (left_side ? d.plan->left.count : d.plan->right.count) == 1) {
        return halve(call, left_side);
    }
    const size_t batches = axes_size(&d.plan->outer), rows = d.symmetric ? d.left : d.left + d.right;
    const size_t group = rows < NORM_ROWS ? NORM_ROWS / rows < batches ? NORM_ROWS / rows : batches : 1;
    const size_t weights_size = group * rows + COSINE_PADDING; /* kernels read past the last weight */
    size_t bytes;
    if (!size_mul(weights_size, sizeof(double) + sizeof(int), &bytes)) {
        return -1;
    }
    double *weights = d.cosine ? scratch_alloc(bytes) : NULL;
    if (d.cosine && weights == NULL) {
        return -1;
    }
    if (d.cosine) {
        int *exponents = (int *)(weights + weights_size);
        memset(weights + group * rows, 0, COSINE_PADDING * sizeof *weights);
        d.x = (struct norms){weights, exponents};
        d.y = d.symmetric ? d.x : (struct norms){weights + group * d.left, exponents + group * d.left};
    }
    int status = 0;
    for (size_t batch = 0; status == 0 && batch < batches; batch += group) {
        d.first_batch = batch;
        status = run_group(&d, batches - batch < group ? batches - batch : group);
    }
    scratch_free(weights);
    return status;
}
