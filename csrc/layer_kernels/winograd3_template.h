/*
 * Winograd convolution for kernels of 3 x 3, stride 1, in float32. It is F(2 x 2, 3 x 3): a tile of
 * 2 x 2 output pixels takes 16 products instead of 36.
 *
 * The input transform turns 4 x 4 pixels into 16 sums. The filter transform turns the 3 x 3 weights
 * into 16 sums. For each f < 16, the caller multiplies sum f of the pixels by sum f of the weights,
 * and adds the products up over channels. The output transform turns the 16 results into 2 x 2
 * pixels. Filters are divided by 4 at most, so small integers give exact results.
 */

/* One dimension of the input transform: four elements into four sums. */
INLINE void winograd3_input(vf to[4], const vf d0, const vf d1, const vf d2, const vf d3)
{
    const vf minus_one = vf_set1(-1.0f);
    to[0] = vf_fma(minus_one, d2, d0);
    to[1] = vf_add(d1, d2);
    to[2] = vf_fma(minus_one, d1, d2);
    to[3] = vf_fma(minus_one, d3, d1);
}

/* Transforms the columns of rows that are transformed along the row, and stores the 16 sums. */
INLINE void winograd3_store_columns(float *to, size_t sum_step, const vf rows[4][4])
{
    _Pragma("GCC unroll 4") for (size_t c = 0; c < 4; c++)
    {
        vf column[4];
        winograd3_input(column, rows[0][c], rows[1][c], rows[2][c], rows[3][c]);
        _Pragma("GCC unroll 4") for (size_t r = 0; r < 4; r++)
        {
            vf_store(to + (4 * r + c) * sum_step, column[r]);
        }
    }
}

/*
 * Input transform of tile_rows rows of tiles of one channel. Row y of tiles reads rows 2 y to 2 y +
 * 3 of `in`, which are `pitch` elements apart. pitch is at least twice the number of tiles rounded
 * up to a multiple of VF_LANES, plus 2. Sum f of tile (y, x) goes to out[f * sum_step + y * tiles +
 * x]. The last row writes up to VF_LANES - 1 elements beyond its end.
 */
static void winograd3_input_transform(float *out, size_t sum_step, const float *in, size_t pitch,
                                      size_t tile_rows, size_t tiles)
{
    for (size_t y = 0; y < tile_rows; y++, in += 2 * pitch) {
        for (size_t x = 0; x < tiles; x += VF_LANES) {
            vf rows[4][4];
            _Pragma("GCC unroll 4") for (size_t r = 0; r < 4; r++)
            {
                const float *pixels = in + r * pitch + 2 * x;
                vf d[4];
                vf_load_alternating(pixels, &d[0], &d[1]);
                vf_load_alternating(pixels + 2, &d[2], &d[3]);
                winograd3_input(rows[r], d[0], d[1], d[2], d[3]);
            }
            winograd3_store_columns(out + y * tiles + x, sum_step, rows);
        }
    }
}

/*
 * Input transform of n channels of one tile. pixels[4 * y + x] points to the channels of its pixel
 * (y, x). Sum f of channel i goes to out[f * sum_step + i]. n is a multiple of VF_LANES. The bits
 * are those of winograd3_input_transform.
 */
static void winograd3_tile_transform(float *out, size_t sum_step, const float *const *pixels,
                                     size_t n)
{
    const float *at[16]; /* a local copy cannot alias `out` */
    _Pragma("GCC unroll 16") for (size_t k = 0; k < 16; k++)
    {
        at[k] = pixels[k];
    }
    for (size_t i = 0; i < n; i += VF_LANES) {
        vf rows[4][4];
        _Pragma("GCC unroll 4") for (size_t r = 0; r < 4; r++)
        {
            winograd3_input(rows[r], vf_load(at[4 * r] + i), vf_load(at[4 * r + 1] + i),
                            vf_load(at[4 * r + 2] + i), vf_load(at[4 * r + 3] + i));
        }
        winograd3_store_columns(out + i, sum_step, rows);
    }
}

/* One dimension of the filter transform: three weights into four sums. */
INLINE void winograd3_filter(vf to[4], const vf g0, const vf g1, const vf g2)
{
    const vf half = vf_set1(0.5f), ends = vf_mul(half, vf_add(g0, g2));
    to[0] = g0;
    to[1] = vf_fma(half, g1, ends);
    to[2] = vf_fma(vf_set1(-0.5f), g1, ends);
    to[3] = g2;
}

/*
 * Filter transform of packed weights, in (channels, 3, 3, width). Sum f of channel c goes to
 * out[f * sum_step + c * width + lane]. width is a multiple of VF_LANES.
 */
static void winograd3_filter_transform(float *out, size_t sum_step, const float *in,
                                       size_t channels, size_t width)
{
    for (size_t c = 0; c < channels; c++, in += 9 * width, out += width) {
        for (size_t i = 0; i < width; i += VF_LANES) {
            vf columns[3][4];
            for (size_t x = 0; x < 3; x++) {
                winograd3_filter(columns[x], vf_load(in + x * width + i),
                                 vf_load(in + (3 + x) * width + i),
                                 vf_load(in + (6 + x) * width + i));
            }
            for (size_t r = 0; r < 4; r++) {
                vf row[4];
                winograd3_filter(row, columns[0][r], columns[1][r], columns[2][r]);
                for (size_t x = 0; x < 4; x++) {
                    vf_store(out + (4 * r + x) * sum_step + i, row[x]);
                }
            }
        }
    }
}

/* One dimension of the output transform: four results into two. */
INLINE void winograd3_output(vf to[2], const vf m0, const vf m1, const vf m2, const vf m3)
{
    const vf minus_one = vf_set1(-1.0f);
    to[0] = vf_add(vf_add(m0, m1), m2);
    to[1] = vf_fma(minus_one, m3, vf_fma(minus_one, m2, m1));
}

/*
 * Output transform of tiles [first, first + count) of an image, whose rows have `tiles` tiles. The
 * 16 results of a tile are sums[f * sum_step + i * width + lane] for i < count. Pixel (y, x) of the
 * image goes to out[(y * columns + x) * width + lane], after bias and relu as in struct pixels.
 * Pixels with y >= rows or x >= columns are dropped. Returns false if a result before the bias is
 * not finite.
 */
static bool winograd3_output_transform(const struct winograd3_output_transform *call)
{
    const vf zero = vf_set1(0.0f);
    const size_t width = call->width, line = call->columns * width;
    vf check = zero;
    for (size_t i = 0; i < call->count; i++) {
        const size_t tile = call->first + i, y = tile / call->tiles * 2, x = tile % call->tiles * 2;
        float *out = call->out + y * line + x * width;
        const bool right = x + 1 < call->columns, below = y + 1 < call->rows;
        for (size_t at = 0; at < width; at += VF_LANES) {
            const float *m = call->sums + i * width + at;
            vf rows[2][4], top[2], bottom[2];
            for (size_t c = 0; c < 4; c++) {
                vf column[2];
                winograd3_output(
                    column, vf_load(m + c * call->sum_step), vf_load(m + (4 + c) * call->sum_step),
                    vf_load(m + (8 + c) * call->sum_step), vf_load(m + (12 + c) * call->sum_step));
                rows[0][c] = column[0];
                rows[1][c] = column[1];
            }
            winograd3_output(top, rows[0][0], rows[0][1], rows[0][2], rows[0][3]);
            winograd3_output(bottom, rows[1][0], rows[1][1], rows[1][2], rows[1][3]);
            check = vf_fma(zero, top[0], vf_fma(zero, top[1], check));
            check = vf_fma(zero, bottom[0], vf_fma(zero, bottom[1], check));
            if (call->bias != NULL) {
                const vf bias = vf_load(call->bias + at);
                for (int c = 0; c < 2; c++) {
                    top[c] = vf_add(top[c], bias);
                    bottom[c] = vf_add(bottom[c], bias);
                }
            }
            if (call->relu) {
                for (int c = 0; c < 2; c++) {
                    top[c] = vf_relu(top[c]);
                    bottom[c] = vf_relu(bottom[c]);
                }
            }
            vf_store(out + at, top[0]);
            if (right) {
                vf_store(out + width + at, top[1]);
            }
            if (below) {
                vf_store(out + line + at, bottom[0]);
            }
            if (right && below) {
                vf_store(out + line + width + at, bottom[1]);
            }
        }
    }
    float lanes[VF_LANES];
    vf_store(lanes, check);
    return horizontal_sum(lanes) == 0.0f;
}
