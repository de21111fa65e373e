/*
 * Helpers for the sums of rows and columns of all element types: compensated sums in double,
 * prefetch distances, and cosines of sums.
 */

/* A sum that keeps the rounding errors of its additions, computed by Knuth's TwoSum, which is exact
 * for any two finite doubles. Each lane is a separate sum. */

struct compensated_sum {
    vd sum, error;
};

INLINE void compensated_add(struct compensated_sum *s, vd term)
{
    vd sum = vd_add(s->sum, term);
    vd part = vd_sub(sum, s->sum);
    vd lost = vd_add(vd_sub(s->sum, vd_sub(sum, part)), vd_sub(term, part));
    s->error = vd_add(s->error, lost);
    s->sum = sum;
}

/* The sum of all lanes and their errors, as one double. If the sum overflowed, its errors are NaN
 * and the result is the sum alone. */
INLINE double compensated_total(struct compensated_sum s)
{
    double sums[VD_LANES], errors[VD_LANES], total, error = 0.0;
    vd_store(sums, s.sum);
    vd_store(errors, s.error);
    total = sums[0];
    for (int i = 1; i < VD_LANES; i++) {
        double sum = total + sums[i], part = sum - total;
        error += (total - (sum - part)) + (sums[i] - part);
        total = sum;
    }
    for (int i = 0; i < VD_LANES; i++) {
        error += errors[i];
    }
    return total + error == total + error ? total + error : total;
}

/* Prefetch distance of the row kernels in bytes; they prefetch each cache line once. It makes them
 * 3 to 6 % faster from memory. Distances of 576 and more are slower. */
enum { ROWS_PREFETCH = 384 };

/* Number of elements of a row between two polls of the cancellation token. It is a multiple of
 * every loop's step, so polling does not change the sums. */
enum { POLL_ROWS = 1 << 20 };

/* Prefetch distances in bytes: rows in the coarse pass, rows in quantization, SQ8 codes. */
enum { COARSE_PREFETCH = 256, QUANTIZE_PREFETCH = 1536, SQ8_PREFETCH = 256 };

/* The sum of all lanes. It adds the upper half to the lower half until one lane is left. */
INLINE float horizontal_sum(float lanes[VF_LANES])
{
    _Pragma("GCC unroll 4") for (int half = VF_LANES / 2; half > 0; half /= 2)
    {
        _Pragma("GCC unroll 8") for (int i = 0; i < half; i++)
        {
            lanes[i] += lanes[i + half];
        }
    }
    return lanes[0];
}

#ifndef ISA_SUMS
/* cosine_sums_kernel for VD_LANES elements. */
INLINE bool cosine_vector(double *out, const double *xy, const double *xx, const double *yy,
                          vd min_square)
{
    const vd x = vd_load(xx), y = vd_load(yy);
    vd_store(out, vd_clip(vd_div(vd_load(xy), vd_sqrt(vd_mul(x, y)))));
    return vd_all_at_least(x, min_square) && vd_all_at_least(y, min_square);
}

static bool cosine_sums(double *out, const double *xy, const double *xx, const double *yy, size_t n,
                        double min_square)
{
    const vd min_squares = vd_set1(min_square);
    bool all = true;
    size_t i = 0;
    for (; n - i >= VD_LANES; i += VD_LANES) {
        all &= cosine_vector(out + i, xy + i, xx + i, yy + i, min_squares);
    }
    if (i < n) {
        double last[4][VD_LANES];
        const size_t bytes = (n - i) * sizeof *out;
        for (int lane = 0; lane < VD_LANES; lane++) {
            last[0][lane] = last[1][lane] = last[2][lane] = min_square;
        }
        memcpy(last[0], xy + i, bytes);
        memcpy(last[1], xx + i, bytes);
        memcpy(last[2], yy + i, bytes);
        all &= cosine_vector(last[3], last[0], last[1], last[2], min_squares);
        memcpy(out + i, last[3], bytes);
    }
    return all;
}
#endif
