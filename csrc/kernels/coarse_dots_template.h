/*
 * coarse_dots_kernel of kernels.h: approximate dot products of float32 rows, at the speed of
 * memory.
 */

/*
 * Computes the dot products of one row with `count` vectors, and its squared norm. count is a
 * compile-time constant, so that the sums stay in registers.
 */
INLINE void coarse_dots_row(float *dots, size_t dot_step, float *square, const float *x,
                            const float *const *vectors, size_t count, size_t n)
{
    enum { CHAINS = 2 };
    vf sums[COARSE_QUERIES][CHAINS], squares[CHAINS];
    float lanes[VF_LANES];
    size_t k = 0;
    for (int c = 0; c < CHAINS; c++) {
        squares[c] = vf_set1(0.0f);
        for (size_t q = 0; q < count; q++) {
            sums[q][c] = vf_set1(0.0f);
        }
    }
    for (; n - k >= CHAINS * VF_LANES; k += CHAINS * VF_LANES) {
        for (size_t line = 0; line < CHAINS * VF_LANES * sizeof *x; line += 64) {
            __builtin_prefetch((const char *)(x + k) + COARSE_PREFETCH + line);
        }
        _Pragma("GCC unroll 2") for (int c = 0; c < CHAINS; c++)
        {
            const vf a = vf_load(x + k + c * VF_LANES);
            squares[c] = vf_fma(a, a, squares[c]);
            _Pragma("GCC unroll 4") for (size_t q = 0; q < count; q++)
            {
                sums[q][c] = vf_fma(a, vf_load(vectors[q] + k + c * VF_LANES), sums[q][c]);
            }
        }
    }
    for (; k < n; k += VF_LANES) {
        float last[2][VF_LANES] = {{0}};
        const size_t some = n - k < VF_LANES ? n - k : VF_LANES;
        memcpy(last[0], x + k, some * sizeof *x);
        const vf a = vf_load(last[0]);
        squares[0] = vf_fma(a, a, squares[0]);
        for (size_t q = 0; q < count; q++) {
            memcpy(last[1], vectors[q] + k, some * sizeof *x);
            sums[q][0] = vf_fma(a, vf_load(last[1]), sums[q][0]);
        }
    }
    for (size_t q = 0; q <= count; q++) {
        vf_store(lanes,
                 q < count ? vf_add(sums[q][0], sums[q][1]) : vf_add(squares[0], squares[1]));
        *(q < count ? dots + q * dot_step : square) = horizontal_sum(lanes);
    }
}

static void coarse_dots(float *dots, float *squares, const float *x, ptrdiff_t x_step, size_t rows,
                        const float *const *vectors, size_t count, size_t n)
{
    for (size_t r = 0; r < rows; r++, x = (const float *)((const char *)x + x_step)) {
        switch (count) {
        case 1:
            coarse_dots_row(dots + r, rows, squares + r, x, vectors, 1, n);
            break;
        case 2:
            coarse_dots_row(dots + r, rows, squares + r, x, vectors, 2, n);
            break;
        case 3:
            coarse_dots_row(dots + r, rows, squares + r, x, vectors, 3, n);
            break;
        default:
            coarse_dots_row(dots + r, rows, squares + r, x, vectors, COARSE_QUERIES, n);
        }
    }
}
