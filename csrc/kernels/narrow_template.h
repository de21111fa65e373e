/*
 * Rounds floats to one type of 16-bit floats, VF_LANES at a time. Parameter, undefined at the end:
 *
 *   HALF    name of the type in identifiers
 */
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
