/*
 * transpose_f32 and transpose_f64 with 256-bit vectors. avx2.h and avx512.h include this file
 * inside their target regions.
 */
#define TRANSPOSE_SIZE_F32 8
#define TRANSPOSE_SIZE_F64 4
static inline void transpose_f32(float *to, size_t step, const float *const *rows, size_t at)
{
    __m256 pair[8], four[8];
    for (int r = 0; r < 4;
         r++) { /* pair[r] holds columns 0 to 3 of rows r and r + 4, pair[r + 4] columns 4 to 7 */
        __m256 left = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(rows[r] + at)),
                                           _mm_loadu_ps(rows[r + 4] + at), 1);
        __m256 right = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(rows[r] + at + 4)),
                                            _mm_loadu_ps(rows[r + 4] + at + 4), 1);
        pair[r] = left;
        pair[r + 4] = right;
    }
    for (int half = 0; half < 8; half += 4) {
        four[half] = _mm256_unpacklo_ps(pair[half], pair[half + 1]);
        four[half + 1] = _mm256_unpackhi_ps(pair[half], pair[half + 1]);
        four[half + 2] = _mm256_unpacklo_ps(pair[half + 2], pair[half + 3]);
        four[half + 3] = _mm256_unpackhi_ps(pair[half + 2], pair[half + 3]);
    }
    for (int half = 0; half < 8; half += 4) {
        float *out = to + (size_t)half * step;
        _mm256_storeu_ps(out, _mm256_shuffle_ps(four[half], four[half + 2], 0x44));
        _mm256_storeu_ps(out + step, _mm256_shuffle_ps(four[half], four[half + 2], 0xee));
        _mm256_storeu_ps(out + 2 * step, _mm256_shuffle_ps(four[half + 1], four[half + 3], 0x44));
        _mm256_storeu_ps(out + 3 * step, _mm256_shuffle_ps(four[half + 1], four[half + 3], 0xee));
    }
}

static inline void transpose_f64(double *to, size_t step, const double *const *rows, size_t at)
{
    for (size_t half = 0; half < 4; half += 2) { /* each pass transposes two columns of four rows */
        __m256d a = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(rows[0] + at + half)),
                                         _mm_loadu_pd(rows[2] + at + half), 1);
        __m256d b = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(rows[1] + at + half)),
                                         _mm_loadu_pd(rows[3] + at + half), 1);
        _mm256_storeu_pd(to + half * step, _mm256_unpacklo_pd(a, b));
        _mm256_storeu_pd(to + (half + 1) * step, _mm256_unpackhi_pd(a, b));
    }
}
