/*
 * What the sums of rows and columns share, whatever their elements: sums in double that keep the
 * rounding error of each addition (Knuth's TwoSum; exact for any two finite doubles), and cosines
 * of sums.
 */

struct exact {
    vd sum, error;
};

INLINE void exact_add(struct exact *s, vd term)
{
    vd sum = vd_add(s->sum, term);
    vd part = vd_sub(sum, s->sum);
    vd lost = vd_add(vd_sub(s->sum, vd_sub(sum, part)), vd_sub(term, part));
    s->error = vd_add(s->error, lost);
    s->sum = sum;
}

/* The lanes of a sum, and its errors, as one double. An overflowed sum is given as it is: its
 * errors are NaN. */
INLINE double exact_total(struct exact s)
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

/* Bytes that rows are asked for ahead of time, once a cache line: 3 to 6 % faster from memory than
 * without; 576 and more are slower. */
enum { ROWS_AHEAD = 384 };

/* Elements of a row between two looks at the watch: whole runs of any loop here. Sums are the same,
 * whether it looks or not. */
enum { POLL_ROWS = 1 << 20 };

/* Bytes asked for ahead of time for a first look at rows, for coding them, and for codes. */
enum { COARSE_AHEAD = 256, ENCODE_AHEAD = 1536, CODES_AHEAD = 256 };

/* Their sum, half by half. */
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
INLINE bool cosine_vector(double *out, const double *xy, const double *xx, const double *yy,
                          vd floor)
{
    const vd x = vd_load(xx), y = vd_load(yy);
    vd_store(out, vd_clip(vd_div(vd_load(xy), vd_sqrt(vd_mul(x, y)))));
    return vd_all_at_least(x, floor) && vd_all_at_least(y, floor);
}

static bool cosine_sums(double *out, const double *xy, const double *xx, const double *yy, size_t n,
                        double floor)
{
    const vd limit = vd_set1(floor);
    bool all = true;
    size_t i = 0;
    for (; n - i >= VD_LANES; i += VD_LANES) {
        all &= cosine_vector(out + i, xy + i, xx + i, yy + i, limit);
    }
    if (i < n) {
        double last[4][VD_LANES];
        const size_t bytes = (n - i) * sizeof *out;
        for (int lane = 0; lane < VD_LANES; lane++) {
            last[0][lane] = last[1][lane] = last[2][lane] = floor;
        }
        memcpy(last[0], xy + i, bytes);
        memcpy(last[1], xx + i, bytes);
        memcpy(last[2], yy + i, bytes);
        all &= cosine_vector(last[3], last[0], last[1], last[2], limit);
        memcpy(out + i, last[3], bytes);
    }
    return all;
}
#endif
