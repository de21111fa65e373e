/*
 * Conversions from one type of 16-bit floats to float and back, VF_LANES at a time. Parameter,
 * undefined at the end:
 *
 *   HALF    name of the type in identifiers
 */
static void PASTE(widen_, HALF)(float *out, const void *in, size_t n)
{
    const uint16_t *from = in;
    size_t i = 0;
    for (; n - i >= VF_LANES; i += VF_LANES) {
        vf_store(out + i, PASTE(vf_load_, HALF)(from + i));
    }
    if (i < n) {
        uint16_t padded[VF_LANES] = {0};
        float wide[VF_LANES];
        memcpy(padded, from + i, (n - i) * sizeof *from);
        vf_store(wide, PASTE(vf_load_, HALF)(padded));
        memcpy(out + i, wide, (n - i) * sizeof *out);
    }
}

static void PASTE(narrow_, HALF)(void *out, const float *in, size_t n)
{
    uint16_t *to = out;
    size_t i = 0;
    for (; n - i >= VF_LANES; i += VF_LANES) {
        PASTE(vf_store_, HALF)(to + i, vf_load(in + i));
    }
    if (i < n) {
        float padded[VF_LANES] = {0};
        uint16_t halves[VF_LANES];
        memcpy(padded, in + i, (n - i) * sizeof *in);
        PASTE(vf_store_, HALF)(halves, vf_load(padded));
        memcpy(to + i, halves, (n - i) * sizeof *to);
    }
}

#undef HALF
