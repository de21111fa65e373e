/*
 * Helpers that several templates share: compensated sums in double, prefetch distances, sums of
 * lanes, and cosines of sums.
 */

/*
 * A compensated sum. `error` is the total of the rounding errors of all additions to `sum`. Knuth's
 * TwoSum computes each of these errors exactly, for any two finite doubles. Each lane is a separate
 * sum.
 */
struct compensated_sum {
    vd sum, error;
};

INLINE void compensated_add(struct compensated_sum *s, vd term)
{
    vd sum = vd_add(s->sum, term);
    vd added = vd_sub(sum, s->sum);
    vd lost = vd_add(vd_sub(s->sum, vd_sub(sum, added)), vd_sub(term, added));
    s->error = vd_add(s->error, lost);
    s->sum = sum;
}

/*
 * Adds up all lanes and their errors. If the sum overflows, its errors are NaN, and the result is
 * the sum without them.
 */
INLINE double compensated_total(struct compensated_sum s)
{
    double sums[VD_LANES], errors[VD_LANES], total, error = 0.0;
    vd_store(sums, s.sum);
    vd_store(errors, s.error);
    total = sums[0];
    for (int i = 1; i < VD_LANES; i++) {
        double sum = total + sums[i], added = sum - total;
        error += (total - (sum - added)) + (sums[i] - added);
        total = sum;
    }
    for (int i = 0; i < VD_LANES; i++) {
        error += errors[i];
    }
    return total + error == total + error ? total + error : total;
}

/*
 * Prefetch distance of the row kernels for float32 and 16-bit floats, in bytes. Prefetching makes
 * them faster on rows in memory. The AVX2 kernel for float32 prefetches each cache line once.
 * Distances of 576 and more are slower.
 */
enum { ROWS_PREFETCH = 384 };

/*
 * Elements of a row between two polls of the cancellation token. The number is a multiple of every
 * loop's step, so polling does not change the sums.
 */
enum { POLL_ELEMENTS = 1 << 20 };

/* Prefetch distances of coarse_dots, quantize, sq8_dots, half_dots and half_panel, in bytes or
 * rows. That of half_dots keeps memory busy while the rows of a chunk are selected and compared. */
enum {
    COARSE_PREFETCH = 256,
    QUANTIZE_PREFETCH = 1536,
    SQ8_PREFETCH = 256,
    HALF_PREFETCH = 8192,
    HALF_PANEL_PREFETCH = 2048,
    SQ8_ROWS_AHEAD = 8,
    HALF_ROWS_AHEAD = 16,
    SQ8_BLOCKS_AHEAD = 2, /* blocks of rows that are read side by side */
    HALF_DENSE = 3
};

/*
 * Returns the sum of all lanes. Adds the upper half of the lanes to the lower half until one lane
 * is left.
 */
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
