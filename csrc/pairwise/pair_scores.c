/* Turns sums into scores: rows for the product, their norms, cosines, and scores near 1. */
#include "pairwise/pair_scores.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/scratch.h"
#include "vectors/formula.h"

enum { NORM_BATCH = 64 };

/*
 * Cosines whose magnitude is above these thresholds are recomputed in double from the rows. So
 * close to 1, a rounding error could push a cosine past 1 or give identical rows a cosine below 1.
 * The distances of the thresholds from 1 exceed the error of the product.
 */
static const double recompute_above[] = {
    [COMPUTE_F32] = 1.0 - 0x1p-17,
    [COMPUTE_F64] = 1.0 - 1e-13,
    [COMPUTE_I8] = 1.0 - 1e-13,
    [COMPUTE_U8] = 1.0 - 1e-13,
};

static const struct operand *operand_of(const struct pair_scores *s, enum side side)
{
    return side == SIDE_X ? &s->call->x : &s->call->y;
}

/* Returns the axes of the rows of a side. */
static const struct axes *row_axes(const struct pair_scores *s, enum side side)
{
    return side == SIDE_X ? &s->plan->left : &s->plan->right;
}

/* Returns the array of row numbers of a side, or NULL if the plan's axes place the rows. */
static const size_t *numbers_of(const struct pair_scores *s, enum side side)
{
    return side == SIDE_X ? s->call->x_numbers : s->call->y_numbers;
}

static const char *row_address(const struct pair_scores *s, enum side side, size_t batch,
                               size_t row)
{
    const size_t *numbers = numbers_of(s, side);
    const char *data = operand_of(s, side)->data;
    if (numbers != NULL) {
        return data +
               (ptrdiff_t)numbers[row] * (side == SIDE_X ? s->call->x_step : s->call->y_step);
    }
    const struct offsets outer = axes_offsets(&s->plan->outer, s->first_batch + batch),
                         inner = axes_offsets(row_axes(s, side), row);
    return data + (side == SIDE_X ? outer.x + inner.x : outer.y + inner.y);
}

/* Converts elements [k, k + n) of a row to the product's type and scales them. */
static void convert_row(const struct pair_scores *s, enum side side, const char *from, int exponent,
                        size_t k, size_t n, void *buffer)
{
    gather_row(operand_of(s, side), from, &s->plan->reduced, side, k, n, s->product, buffer);
    if (exponent == 0) {
        return;
    }
    if (s->product == COMPUTE_F32) {
        kernels_current()->sums->to_floats[DTYPE_F32](buffer, buffer, n, ldexp(1.0, -exponent));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const double scaled = ldexp(compute_load(s->product, buffer, i), -exponent);
        compute_store(s->product, buffer, i, scaled);
    }
}

void pair_scores_find_rows(const struct pair_scores *s, enum side side, const int *exponents,
                           const struct gemm_rows *request)
{
    const struct operand *operand = operand_of(s, side);
    const struct axes *reduced = &s->plan->reduced;
    const ptrdiff_t stride = reduced->count == 0 ? 0 : axis_stride(&reduced->at[0], side);
    const bool in_place = operand->dtype == compute_element(s->product) &&
                          operand_in_place(operand) && reduced->count <= 1 &&
                          (stride == (ptrdiff_t)compute_size(s->product) || s->plan->depth == 1);
    for (size_t r = 0; r < request->count; r++) {
        const size_t row = request->first + r;
        const char *from = row_address(s, side, request->batch, row);
        const int exponent = exponents == NULL ? 0 : exponents[r];
        if (in_place && exponent == 0) {
            request->pointers[r] = from + (ptrdiff_t)request->k * stride;
        } else {
            char *to = request->buffers + r * request->stride;
            convert_row(s, side, from, exponent, request->k, request->n, to);
            request->pointers[r] = to;
        }
    }
}

/* Returns left row i and right row j as a pair that row_sums can sum. */
static struct row_pair pair_at(const struct pair_scores *s, size_t i, size_t j, size_t batch,
                               enum sums kind)
{
    struct row_pair pair = {operand_of(s, SIDE_X),
                            operand_of(s, SIDE_Y),
                            row_address(s, SIDE_X, batch, i),
                            row_address(s, SIDE_Y, batch, j),
                            &s->plan->reduced,
                            s->plan->depth,
                            s->product,
                            kind};
    return pair;
}

/* True if a row with this squared norm enters the product unscaled. The dot product of two such
 * rows and their squares stay in the range of the type. */
static bool square_is_near_1(enum compute_type compute, double square)
{
    return compute == COMPUTE_F32 ? square >= 0x1p-80 && square <= 0x1p80 : square_is_safe(square);
}

/* True if all elements of a row are whole numbers. The caller has checked that the square of the
 * norm is at most COSINE_MAX_WHOLE, so whole elements fit 32 bits. */
static bool row_is_whole(const struct pair_scores *s, enum side side, size_t batch, size_t row)
{
    enum { BLOCK = 64 };
    const struct operand *operand = operand_of(s, side);
    const char *from = row_address(s, side, batch, row);
    double block[BLOCK];
    for (size_t k = 0, n; k < s->plan->depth && dtype_is_float(operand->dtype); k += n) {
        size_t whole = 0;
        n = smaller(s->plan->depth - k, BLOCK);
        gather_row(operand, from, &s->plan->reduced, side, k, n, COMPUTE_F64, block);
        for (size_t i = 0; i < n; i++) {
            whole += block[i] == (double)(int32_t)block[i];
        }
        if (whole < n) {
            return false;
        }
    }
    return true;
}

/* True if both operands are 8-bit integers. */
static bool operands_are_bytes(const struct reduction *call)
{
    return dtype_size(call->x.dtype) == 1 && dtype_size(call->y.dtype) == 1;
}

/*
 * Sets the norm of a row to the value that struct norms defines. square is |row|^2, after scaling
 * by 2^-exponent.
 *
 * If both rows hold whole numbers, every partial sum of x.y is a whole number of at most |x| |y|.
 * The product's type holds all whole numbers up to max_square. So if |x|^2 and |y|^2 are at most
 * max_square, the dot product is exact. Dot products of 8-bit integers are always exact.
 */
static void set_norm(const struct pair_scores *s, enum side side, size_t batch, size_t row,
                     double square, int exponent, double *value)
{
    const double max_square =
        s->product == COMPUTE_F32 && !operands_are_bytes(s->call) ? 0x1p24 : COSINE_MAX_WHOLE;
    const double eps = eps_scaled(s->call->eps, exponent), norm = formula_clamped_norm(square, eps);
    const bool may_be_whole = s->compute == COMPUTE_F64 && exponent == 0 && square >= 1.0 &&
                              square <= max_square && square == (double)(int64_t)square &&
                              !eps_clamps(sqrt(square), eps);
    *value = s->compute == COMPUTE_F32 ? 1.0 / norm : norm;
    if (may_be_whole && row_is_whole(s, side, batch, row)) {
        *value = -norm;
    }
}

/* Measures the norm and the exponent of one row of any layout and dtype. */
static void measure_row(const struct pair_scores *s, enum side side, size_t batch, size_t row,
                        double *value, int *exponent)
{
    struct axes reduced = s->plan->reduced;
    if (side == SIDE_Y) { /* row_sums reads the row as x, so it uses the x strides */
        for (int i = 0; i < reduced.count; i++) {
            reduced.at[i].x = reduced.at[i].y;
        }
    }
    const struct operand *operand = operand_of(s, side);
    const char *from = row_address(s, side, batch, row);
    struct row_pair pair = {operand,  NULL,           from,       NULL,
                            &reduced, s->plan->depth, s->product, SUMS_SQUARE};
    struct row_sums sums = row_sums_of(&pair);
    if (s->product == COMPUTE_F32 && !square_is_near_1(COMPUTE_F32, sums.xx) && sums.xx > 0.0 &&
        isfinite(sums.xx)) {
        sums.x_exponent = ilogb(sqrt(sums.xx));
        sums.xx = ldexp(sums.xx, -2 * sums.x_exponent);
    }
    set_norm(s, side, batch, row, sums.xx, sums.x_exponent, value);
    *exponent = sums.x_exponent;
}

/*
 * Sums the squares of n rows of one batch in place, with the same bits as measure_row(). Evenly
 * spaced rows take one kernel call. Returns false if the rows are not of a kernel's dtype, not
 * contiguous or too long, or if they are float32 or 16-bit floats that measure_row() sums as
 * doubles.
 */
static bool squares_in_place(const struct pair_scores *s, enum side side, size_t batch,
                             size_t first, size_t n, double *squares)
{
    const struct operand *operand = operand_of(s, side);
    const struct axes *rows = row_axes(s, side), *reduced = &s->plan->reduced;
    const ptrdiff_t item = (ptrdiff_t)dtype_size(operand->dtype);
    const bool contiguous = reduced->count == 1 && axis_stride(&reduced->at[0], side) == item;
    const bool widened =
        s->product == COMPUTE_F64 && dtype_compute_type(operand->dtype) == COMPUTE_F32;
    if (!contiguous || widened || s->plan->depth > ROW_BLOCK || !operand_in_place(operand)) {
        return false;
    }
    rows_kernel *kernel = kernels_current()->sums->rows[operand->dtype][SUMS_SQUARE];
    const size_t at_once = rows->count == 1 && numbers_of(s, side) == NULL ? n : 1;
    const ptrdiff_t step = rows->count == 1 ? axis_stride(&rows->at[0], side) : 0;
    for (size_t i = 0; i < n; i += at_once) {
        kernel(&(struct sums_call){.x = row_address(s, side, batch, first + i),
                                   .x_step = step,
                                   .rows = at_once,
                                   .n = s->plan->depth,
                                   .sums = squares + i});
    }
    return true;
}

void pair_scores_measure(const struct pair_scores *s, enum side side, size_t batch, size_t first,
                         size_t n, const struct norms *norms)
{
    double squares[NORM_BATCH];
    for (size_t done = 0, count; done < n; done += count) {
        count = n - done < NORM_BATCH ? n - done : NORM_BATCH;
        const bool in_place = squares_in_place(s, side, batch, first + done, count, squares);
        for (size_t i = 0; i < count; i++) {
            double *value = &norms->value[done + i];
            int *exponent = &norms->exponent[done + i];
            if (in_place && square_is_near_1(s->product, squares[i])) {
                set_norm(s, side, batch, first + done + i, squares[i], 0, value);
                *exponent = 0;
            } else {
                measure_row(s, side, batch, first + done + i, value, exponent);
            }
        }
    }
}

/* Recomputes the cosine of one pair in double, directly from the rows. */
static double recompute_cosine(const struct pair_scores *s, size_t batch, size_t i, size_t j)
{
    struct row_pair pair = pair_at(s, i, j, batch, SUMS_ALL);
    struct row_sums sums = row_sums_of(&pair);
    return formula_cosine_of(&sums, s->call->eps);
}

double pair_scores_recompute_dot(const struct pair_scores *s, size_t batch, size_t i, size_t j)
{
    struct row_pair pair = pair_at(s, i, j, batch, SUMS_DOT);
    struct row_sums sums = row_sums_of(&pair);
    return ldexp(sums.xy, sums.x_exponent + sums.y_exponent);
}

/* True if the rows of a side are contiguous. */
static bool rows_are_contiguous(const struct pair_scores *s, enum side side)
{
    const struct axes *reduced = &s->plan->reduced;
    return reduced->count == 1 &&
           axis_stride(&reduced->at[0], side) == (ptrdiff_t)dtype_size(operand_of(s, side)->dtype);
}

/* True if rows i of one side and j of the same or the other side are contiguous and have the same
 * bytes. */
static bool bytes_are_equal(const struct pair_scores *s, size_t batch, size_t i, enum side side,
                            size_t j)
{
    const struct operand *x = operand_of(s, SIDE_X), *y = operand_of(s, side);
    return x->dtype == y->dtype && x->swapped == y->swapped && rows_are_contiguous(s, SIDE_X) &&
           rows_are_contiguous(s, side) &&
           memcmp(row_address(s, SIDE_X, batch, i), row_address(s, side, batch, j),
                  s->plan->depth * dtype_size(x->dtype)) == 0;
}

/* True if the cosine of a row with itself is 1: the norm is finite, and eps does not clamp it. */
static bool cosine_with_itself_is_1(const struct pair_scores *s, double value, int exponent)
{
    const double norm = pair_scores_divisor(s, value);
    const double eps = eps_scaled(s->call->eps, exponent);
    return isfinite(norm) && norm * norm >= eps_unclamped_square(eps, EPS_ERROR_OF_DOUBLES);
}

/*
 * Finds the pairs of a block that have equal bytes. Among scores near 1, a row often repeats the
 * row before it. The pairs of that row are known, which saves comparisons.
 */
struct equal_pairs {
    size_t row; /* of the block; SIZE_MAX before the first */
    bool with_itself_1;
    bool is_repeat, repeat_is_known; /* whether the row has the bytes of the row before it */
    /* [c]: 1 + the last row that has the bytes of column c; 0: none yet */
    uint8_t last[GEMM_MAX_COLUMNS];
};

/* True if row r and column c of a block have the same bytes and the cosine 1. Call it in ascending
 * order of r. */
static bool pair_is_equal(const struct pair_scores *s, const struct gemm_block *b,
                          const struct norms *rows, struct equal_pairs *e, size_t r, size_t c)
{
    const size_t i = b->row + r, j = b->column + c;
    bool equal;
    if (e->row != r) {
        e->row = r;
        e->repeat_is_known = false;
        e->with_itself_1 = cosine_with_itself_is_1(s, rows->value[r], rows->exponent[r]);
    }
    if (!e->with_itself_1) {
        return false;
    }
    if (s->symmetric && i == j) {
        equal = true;
    } else if (r > 0 && e->last[c] == r) { /* the row before has the bytes of the column */
        if (!e->repeat_is_known) {
            e->repeat_is_known = true;
            e->is_repeat = bytes_are_equal(s, b->batch, i, SIDE_X, i - 1);
        }
        equal = e->is_repeat;
    } else {
        equal = bytes_are_equal(s, b->batch, i, SIDE_Y, j);
    }
    if (equal) {
        e->last[c] = (uint8_t)(r + 1);
    }
    return equal;
}

void pair_scores_cosines(const struct pair_scores *s, const struct gemm_block *b,
                         const struct norms *rows, const struct norms *columns, void *out,
                         ptrdiff_t out_step)
{
    const ptrdiff_t item = (ptrdiff_t)compute_size(s->compute);
    const struct cosine_tile tile = {b->sums,
                                     b->step,
                                     rows->value,
                                     columns->value,
                                     b->rows,
                                     b->columns,
                                     recompute_above[s->product]};
    uint32_t found[GEMM_MAX_ROWS * GEMM_MAX_COLUMNS / COSINE_STEP + 1];
    const size_t count = kernels_current()->tiles[s->compute].cosine(&tile, out, out_step, found);
    if (count == 0) {
        return;
    }
    struct equal_pairs equal = {.row = SIZE_MAX};
    for (size_t f = 0; f < count; f++) {
        const size_t r = found[f] >> 16;
        for (uint32_t bits = found[f] & 0xff; bits != 0; bits &= bits - 1) {
            const size_t c = (found[f] >> 8 & 0xff) + (size_t)__builtin_ctz(bits);
            /* Comparing bytes is several times faster than summing products in double. */
            const double score = pair_is_equal(s, b, rows, &equal, r, c)
                                     ? 1.0
                                     : recompute_cosine(s, b->batch, b->row + r, b->column + c);
            compute_store(s->compute, (char *)out + (ptrdiff_t)r * out_step * item, c, score);
        }
    }
}

/* Finds the elements of one row of a single-pair score, converted for the product if needed. */
static const void *find_row(const struct pair_scores *s, enum side side,
                            const struct scored_row *row)
{
    const void *found;
    const struct gemm_rows request = {0, row->row, 1, 0, s->plan->depth, 0, row->buffer, 0, &found};
    pair_scores_find_rows(s, side, row->norms->exponent, &request);
    return found;
}

double pair_scores_one(const struct pair_scores *s, const struct scored_row *left,
                       const struct scored_row *right)
{
    const void *x = find_row(s, SIDE_X, left), *y = find_row(s, SIDE_Y, right);
    double sum[COSINE_PADDING] = {0.0}, score;
    if (s->product < COMPUTE_TYPES) {
        sum[0] = kernels_current()->tiles[s->product].tile_sum(x, y, s->plan->depth);
    } else { /* sums of 8-bit integers are exact in any order */
        kernels_current()->sums->rows[compute_element(s->product)][SUMS_DOT](
            &(struct sums_call){x, y, 0, 0, 1, s->plan->depth, sum, 0});
    }
    const struct gemm_block block = {0, left->row, 1, right->row, 1, 0, sum, COSINE_PADDING};
    pair_scores_cosines(s, &block, left->norms, right->norms, &score, 1);
    return compute_load(s->compute, &score, 0);
}

/* True if both sides are the same rows in memory. */
static bool sides_are_same(const struct reduction *call)
{
    const struct plan *plan = call->plan;
    const struct operand *x = &call->x, *y = &call->y;
    bool same = x->data == y->data && call->x_numbers == call->y_numbers && x->dtype == y->dtype &&
                x->swapped == y->swapped && plan->left.count == 1 && plan->right.count == 1;
    same = same && plan->left.at[0].size == plan->right.at[0].size &&
           plan->left.at[0].x == plan->right.at[0].y;
    for (int i = 0; i < plan->reduced.count; i++) {
        same = same && plan->reduced.at[i].x == plan->reduced.at[i].y;
    }
    for (int i = 0; i < plan->outer.count; i++) {
        same = same && plan->outer.at[i].x == plan->outer.at[i].y;
    }
    return same;
}

/* Returns the type of the rows in the product: see struct pair_scores. */
static enum compute_type product_type(const struct reduction *call, bool narrow)
{
    /* dot products can exceed the range of float32 */
    const bool wide_dots = call->op == OP_DOT && call->out_dtype == DTYPE_F64;
    if (operands_are_bytes(call) && call->x.dtype == call->y.dtype &&
        kernels_current()->bytes != NULL) {
        return call->x.dtype == DTYPE_I8 ? COMPUTE_I8 : COMPUTE_U8;
    }
    return (narrow && !wide_dots) || operands_are_bytes(call) ? COMPUTE_F32 : COMPUTE_F64;
}

void pair_scores_init(struct pair_scores *s, const struct reduction *call)
{
    *s = (struct pair_scores){.call = call,
                              .plan = call->plan,
                              .symmetric = !call->distinct && sides_are_same(call),
                              .cosine = call->op != OP_DOT};
    const bool narrow = dtypes_compute_type(call->x.dtype, call->y.dtype) == COMPUTE_F32;
    s->compute =
        narrow && call->op == OP_COSINE && call->out_dtype == DTYPE_F32 ? COMPUTE_F32 : COMPUTE_F64;
    s->product = product_type(call, narrow);
    s->left = axes_size(&s->plan->left);
    s->right = axes_size(&s->plan->right);
}
