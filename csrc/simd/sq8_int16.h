/*
 * Dot products of SQ8 codes with 16-bit integers, for instruction sets without 8-bit dot products.
 */
#define SQ8_LANES (2 * VF_LANES)
typedef int16_t query_code;
#define QUERY_CODE_MAX 2047
typedef vh vc;

static inline vc vc_load_codes(const uint8_t *p) { return vh_load_u8(p); }
/* Loads signed integers x as they are: I8_ZERO is 0. */
#define I8_ZERO 0
static inline vc vc_load_i8(const uint8_t *p) { return vh_load_i8((const int8_t *)p); }
static inline vc vc_load_query_codes(const int16_t *p) { return vh_load(p); }
static inline vi vi_dot_codes(vi sums, vc codes, vc factors)
{
    return vi_dot(sums, codes, factors);
}
