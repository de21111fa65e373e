/*
 * Winograd convolution for kernels of five rows, in float32. It is F(2, 5), a Toom-Cook algorithm
 * with the points 0, 1, -1, 2, -2 and infinity: two output rows take six products instead of ten.
 *
 * The input transform turns six image rows into six sums. The filter transform turns the five rows
 * of a kernel into six sums. For each f < 6, the caller multiplies sum f of the image by sum f of
 * the kernel, and adds the products up over channels and kernel columns. The output transform turns
 * the six results into two output rows.
 */

/*
 * Input transform for `pairs` pairs of output rows. Pair t reads image rows 2 t to 2 t + 5, which
 * have n >= VF_LANES elements and are row_step elements apart. Sum f of pair t goes to out[f *
 * sum_step + t * n].
 */
static void winograd_input_transform(float *out, size_t sum_step, const float *in, size_t row_step,
                                     size_t pairs, size_t n)
{
    const vf two = vf_set1(2.0f), four = vf_set1(4.0f), minus_one = vf_set1(-1.0f),
             minus_two = vf_set1(-2.0f), minus_four = vf_set1(-4.0f), minus_five = vf_set1(-5.0f);
    for (size_t t = 0; t < pairs; t++, out += n, in += 2 * row_step) {
        for (size_t i = 0, at; i < n; i += VF_LANES) {
            at = n - i < VF_LANES ? n - VF_LANES : i;
            vf d[6];
            _Pragma("GCC unroll 6") for (int r = 0; r < 6; r++)
            {
                d[r] = vf_load(in + (size_t)r * row_step + at);
            }
            const vf even = vf_fma(minus_four, d[2], d[4]), odd = vf_fma(minus_four, d[1], d[3]);
            const vf even_of_two = vf_fma(minus_one, d[2], d[4]),
                     odd_of_two = vf_fma(minus_one, d[1], d[3]);
            vf_store(out + at, vf_fma(four, d[0], vf_fma(minus_five, d[2], d[4])));
            vf_store(out + sum_step + at, vf_add(even, odd));
            vf_store(out + 2 * sum_step + at, vf_fma(minus_one, odd, even));
            vf_store(out + 3 * sum_step + at, vf_fma(two, odd_of_two, even_of_two));
            vf_store(out + 4 * sum_step + at, vf_fma(minus_two, odd_of_two, even_of_two));
            vf_store(out + 5 * sum_step + at, vf_fma(four, d[1], vf_fma(minus_five, d[3], d[5])));
        }
    }
}

/*
 * Filter transform of five vectors, one of each row of a kernel. The six sums are stored sum_step
 * elements apart.
 */
INLINE void winograd_filter_vector(float *out, size_t sum_step, const vf g[5])
{
    const vf minus_one = vf_set1(-1.0f);
    const vf even = vf_add(vf_add(g[0], g[2]), g[4]), odd = vf_add(g[1], g[3]);
    const vf even_of_two = vf_fma(vf_set1(16.0f), g[4], vf_fma(vf_set1(4.0f), g[2], g[0]));
    const vf odd_of_two = vf_fma(vf_set1(8.0f), g[3], vf_mul(vf_set1(2.0f), g[1]));
    vf_store(out, g[0]);
    vf_store(out + sum_step, vf_add(even, odd));
    vf_store(out + 2 * sum_step, vf_fma(minus_one, odd, even));
    vf_store(out + 3 * sum_step, vf_add(even_of_two, odd_of_two));
    vf_store(out + 4 * sum_step, vf_fma(minus_one, odd_of_two, even_of_two));
    vf_store(out + 5 * sum_step, g[4]);
}

/*
 * Filter transform of one kernel (5, n). It reads and writes up to VF_LANES - 1 elements beyond the
 * end of each row. The sums of those elements are not used.
 */
INLINE void winograd_filter_rows(float *out, size_t sum_step, const float *weight, size_t n)
{
    for (size_t i = 0; i < n; i += VF_LANES) {
        const vf g[5] = {vf_load(weight + i), vf_load(weight + n + i), vf_load(weight + 2 * n + i),
                         vf_load(weight + 3 * n + i), vf_load(weight + 4 * n + i)};
        winograd_filter_vector(out + i, sum_step, g);
    }
}

/*
 * Filter transform of weight (count, 5, n). Sum f of kernel k goes to out[f * sum_step + k * n]. It
 * writes up to VF_LANES - 1 elements beyond the count * n sums of each f. The caller leaves room
 * for them (WINOGRAD_PADDING).
 */
static void winograd_filter_transform(float *out, size_t sum_step, const float *weight,
                                      size_t count, size_t n)
{
    /* winograd_filter_rows reads whole vectors, so it reads up to VF_LANES - 1 elements beyond the
     * fifth row. It takes the kernels for which these elements are still within `weight`. */
    const size_t elements = count * 5 * n, read = 4 * n + (n + VF_LANES - 1) / VF_LANES * VF_LANES;
    size_t k = 0;
    for (; k * 5 * n + read <= elements; k++) {
        winograd_filter_rows(out + k * n, sum_step, weight + k * 5 * n, n);
    }
    for (; k < count; k++) {
        for (size_t i = 0; i < n; i += VF_LANES) {
            float rows[5][VF_LANES] = {{0}};
            vf g[5];
            for (size_t r = 0; r < 5; r++) {
                memcpy(rows[r], weight + (k * 5 + r) * n + i,
                       (n - i < VF_LANES ? n - i : VF_LANES) * sizeof(float));
                g[r] = vf_load(rows[r]);
            }
            winograd_filter_vector(out + k * n + i, sum_step, g);
        }
    }
}

/* Divides a by n. Dividing the remainder again corrects the quotient, so integer quotients are
 * exact. */
INLINE vf divide_exactly(vf a, float n)
{
    const vf inverse = vf_set1(1.0f / n), first = vf_mul(a, inverse);
    return vf_fma(vf_fma(vf_set1(-n), first, a), inverse, first);
}

/*
 * Output transform. For each filter r < rows and vector v < vectors, there are six results,
 * m_f = sums[f * sum_step + r * row_step + v * VF_LANES]. They give two output rows:
 *
 *     y0 = (6 m0 - 4 (m1 + m2) + m3 + m4) / 24
 *     y1 = (12 m5 - 2 (m1 - m2) + m3 - m4) / 12
 *
 * Each division is the last operation of its formula, so small integers give exact results. Pooling
 * then meets the same ties, and relu the same zeros, as in the direct algorithm.
 *
 * bias, relu and pool then act as in struct outer. y0 goes to out_offsets[2 v] and y1 to
 * out_offsets[2 v + 1]; if both offsets are equal, y0 stays. With pool, the maxima go to
 * out_offsets[v]. Returns false if a result before the bias is not finite.
 */
static bool winograd_output_transform(const struct winograd_output_transform *call)
{
    const vf zero = vf_set1(0.0f), minus_one = vf_set1(-1.0f), minus_two = vf_set1(-2.0f),
             minus_four = vf_set1(-4.0f);
    vf check = zero;
    for (size_t r = 0; r < call->rows; r++) {
        const vf bias = vf_set1(call->bias == NULL ? 0.0f : call->bias[r]);
        float *out = call->out + r * call->out_step;
        for (size_t v = 0; v < call->vectors; v++) {
            const float *m = call->sums + r * call->row_step + v * VF_LANES;
            const size_t step = call->sum_step;
            const vf m1 = vf_load(m + step), m2 = vf_load(m + 2 * step), m3 = vf_load(m + 3 * step),
                     m4 = vf_load(m + 4 * step);
            vf first = vf_fma(vf_set1(6.0f), vf_load(m),
                              vf_fma(minus_four, vf_add(m1, m2), vf_add(m3, m4)));
            vf second =
                vf_fma(vf_set1(12.0f), vf_load(m + 5 * step),
                       vf_fma(minus_two, vf_fma(minus_one, m2, m1), vf_fma(minus_one, m4, m3)));
            first = divide_exactly(first, 24.0f);
            second = divide_exactly(second, 12.0f);
            check = vf_fma(zero, first, vf_fma(zero, second, check));
            first = vf_add(first, bias);
            second = vf_add(second, bias);
            if (call->pool) {
                const vf largest = vf_max_propagating_nan(first, second);
                vf_store_pair_maxima(out + call->out_offsets[v],
                                     call->relu ? vf_relu(largest) : largest);
            } else {
                vf_store(out + call->out_offsets[2 * v + 1], call->relu ? vf_relu(second) : second);
                vf_store(out + call->out_offsets[2 * v], call->relu ? vf_relu(first) : first);
            }
        }
    }
    float lanes[VF_LANES];
    vf_store(lanes, check);
    return horizontal_sum(lanes) == 0.0f;
}
