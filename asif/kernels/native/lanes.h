// Vectors as wide as the instruction set this file is compiled for, and the three storage types of anchors.
//
// The library is compiled once per instruction set; `LANES` floats make a vector. GCC and Clang lower these types to
// whatever the machine has, so that one text serves AVX-512, AVX2, SSE2 and NEON.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(EMULATED_LANES)  // of another machine, without its instructions: for tests
#define LANES EMULATED_LANES
#elif defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define USES_AVX512 1
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#define USES_AVX2 1
#elif defined(__aarch64__)
#include <arm_neon.h>
#define LANES 4
#define USES_NEON 1
#elif defined(__SSE2__)
#include <emmintrin.h>
#define LANES 4
#define USES_SSE2 1
#else
#define LANES 4
#endif

namespace asif {

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef double Doubles __attribute__((vector_size(4 * LANES)));  // half as many lanes
typedef float HalfFloats __attribute__((vector_size(2 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint32_t HalfWords __attribute__((vector_size(2 * LANES)));
typedef uint16_t HalfShorts __attribute__((vector_size(LANES)));
typedef uint16_t Shorts __attribute__((vector_size(2 * LANES)));

struct Half { uint16_t bits; };
struct Brain { uint16_t bits; };

template <class V, class T>
inline V read(const T* from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <class V, class T>
inline void write(T* to, V value) {
    std::memcpy(to, &value, sizeof value);
}

template <class V, class U>
inline V bits_as(U value) {
    static_assert(sizeof(V) == sizeof(U), "equal sizes");
    V same;
    std::memcpy(&same, &value, sizeof same);
    return same;
}

// Write the lowest byte of each word.
inline void write_low_bytes(int8_t* to, Words words) {
#if USES_AVX512
    _mm_storeu_si128((__m128i*)to, _mm512_cvtepi32_epi8((__m512i)words));
#elif USES_AVX2
    const __m256i chosen = _mm256_setr_epi32(0x0c080400, -1, -1, -1, 0x0c080400, -1, -1, -1);
    const __m256i packed = _mm256_shuffle_epi8((__m256i)words, chosen);
    const __m128i joined = _mm_unpacklo_epi32(_mm256_castsi256_si128(packed), _mm256_extracti128_si256(packed, 1));
    _mm_storel_epi64((__m128i*)to, joined);
#else
    for (int lane = 0; lane < LANES; ++lane) to[lane] = (int8_t)words[lane];
#endif
}

inline Floats load(const float* from) { return read<Floats>(from); }

inline Floats load(const Brain* from) {
    return bits_as<Floats>(__builtin_convertvector(read<Shorts>(from), Words) << 16);
}

inline Floats load(const Half* from) {
#if USES_AVX512
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
#elif USES_AVX2
    return (Floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
#elif USES_NEON
    return (Floats)vcvt_f32_f16((float16x4_t)vld1_u16(&from->bits));
#else
    const Words word = __builtin_convertvector(read<Shorts>(from), Words);
    const Words size = word & 0x7fff, sign = (word & 0x8000) << 16;
    const Words normal = (size << 13) + (112u << 23) + ((Words)(size >= 0x7c00) & (112u << 23));  // infinity stays so
    const Words small = bits_as<Words>(__builtin_convertvector(size, Floats) * 0x1p-24f);
    const Words is_small = (Words)(size < 0x400);
    return bits_as<Floats>((small & is_small) | (normal & ~is_small) | sign);
#endif
}

// Load what is left of a row, fewer than LANES entries, zeros after them.
template <class T>
inline Floats load_tail(const T* from, int count) {
    T padded[LANES] = {};
    std::memcpy(padded, from, count * sizeof(T));
    return load(padded);
}

inline Floats broadcast(float value) { return value - Floats{}; }  // adding zero would be an instruction: -0 + 0 is 0

inline float sum(Floats value) {
#if USES_AVX512
    return _mm512_reduce_add_ps((__m512)value);
#elif USES_AVX2
    __m128 half = _mm_add_ps(_mm256_castps256_ps128((__m256)value), _mm256_extractf128_ps((__m256)value, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
#elif USES_NEON
    return vaddvq_f32((float32x4_t)value);
#else
    float lanes[LANES], total = 0;
    write(lanes, value);
    for (int lane = 0; lane < LANES; ++lane) total += lanes[lane];
    return total;
#endif
}

inline double sum(Doubles value) {
    double total = 0;
    for (int lane = 0; lane < LANES / 2; ++lane) total += value[lane];
    return total;
}

// Tell whether all values are finite.
inline bool finite(const float* from, int count) {
    Floats nothing{};
    int at = 0;
    for (; at + LANES <= count; at += LANES) nothing += load(from + at) * 0.0f;  // 0, or NaN
    return sum(nothing + load_tail(from + at, count - at) * 0.0f) == 0;
}

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a > b ? b : a; }

// Tell, one bit a lane, where a >= b.
inline unsigned at_least(Floats a, Floats b) {
#if USES_AVX512
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
#elif USES_AVX2
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GE_OQ));
#elif USES_NEON
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgeq_f32((float32x4_t)a, (float32x4_t)b), bits));
#else
    unsigned mask = 0;
    for (int lane = 0; lane < LANES; ++lane) mask |= (unsigned)(a[lane] >= b[lane]) << lane;
    return mask;
#endif
}

// Half as many entries, as float64.
inline Doubles load_wide(const float* from) {
#if USES_AVX512
    return (Doubles)_mm512_cvtps_pd(_mm256_loadu_ps(from));
#elif USES_AVX2
    return (Doubles)_mm256_cvtps_pd(_mm_loadu_ps(from));  // GCC 12 would convert each half, and join them
#else
    return __builtin_convertvector(read<HalfFloats>(from), Doubles);
#endif
}

// Round to float32.
inline Floats narrow(Doubles low, Doubles high) {
#if USES_AVX512
    const __m512 half = _mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)low));
    return (Floats)_mm512_insertf32x8(half, _mm512_cvtpd_ps((__m512d)high), 1);
#elif USES_AVX2
    return (Floats)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)high), _mm256_cvtpd_ps((__m256d)low));
#else
    const HalfFloats halves[2] = {__builtin_convertvector(low, HalfFloats), __builtin_convertvector(high, HalfFloats)};
    return read<Floats>(halves);
#endif
}

inline Doubles load_wide(const Brain* from) {
    const HalfWords word = __builtin_convertvector(read<HalfShorts>(from), HalfWords);
    return __builtin_convertvector(bits_as<HalfFloats>(word << 16), Doubles);
}

inline Doubles load_wide(const Half* from) {
#if USES_AVX512  // in two steps: the one-step vcvtph2pd takes twice as long
    return (Doubles)_mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from)));
#elif USES_AVX2
    return (Doubles)_mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)from)));
#elif USES_NEON
    uint32_t both;
    std::memcpy(&both, from, sizeof both);
    return (Doubles)vcvt_f64_f32(vget_low_f32(vcvt_f32_f16((float16x4_t)vdup_n_u32(both))));
#else
    Half padded[LANES] = {};
    std::memcpy(padded, from, LANES / 2 * sizeof(Half));
    const Floats value = load(padded);
    HalfFloats half;
    std::memcpy(&half, &value, sizeof half);
    return __builtin_convertvector(half, Doubles);
#endif
}

// Round to the canonical grid, multiples of 2^-26, ties to even: adding and taking away 1.5 * 2^26 leaves no finer bit.
template <class V>
inline V on_grid(V value) {
    const double shift = 0x1.8p26;
    return (value + shift) - shift;
}

// Tell whether every value of a type is a multiple of 2^-26 where rows are of unit length.
template <class T>
constexpr bool lies_on_grid = std::is_same<T, Half>::value;

template <class T>
inline Doubles entries_on_grid(const T* from) {
    const Doubles value = load_wide(from);
    return lies_on_grid<T> ? value : on_grid(value);
}

// The canonical inner products of a row and QUERIES queries, `stride` apart, exact whatever the order: queries are on the
// grid, zero up to a multiple of LANES.
template <int QUERIES, class T>
inline void exact_products(const double* queries, size_t stride, const T* row, int dim, double* products) {
    constexpr int WIDE = LANES / 2, PARTS = QUERIES < 4 ? 4 : 8 / QUERIES;  // sums that stay in registers
    Doubles totals[QUERIES][PARTS] = {};
    const auto add = [&](const T* from, int at, int part) {
        const Doubles entries = entries_on_grid(from + part * WIDE);
#pragma GCC unroll 8
        for (int query = 0; query < QUERIES; ++query)
            totals[query][part] += entries * read<Doubles>(queries + query * stride + at + part * WIDE);
    };
    int at = 0;
    for (; at + PARTS * WIDE <= dim; at += PARTS * WIDE)
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; ++part) add(row + at, at, part);
    T padded[PARTS * WIDE] = {};
    std::memcpy(static_cast<void*>(padded), row + at, (dim - at) * sizeof(T));
#pragma GCC unroll 4
    for (int part = 0; part < PARTS; ++part)
        if (at + part * WIDE < dim) add(padded, at, part);
    for (int query = 0; query < QUERIES; ++query) {
        Doubles total = totals[query][0];
        for (int part = 1; part < PARTS; ++part) total += totals[query][part];
        products[query] = sum(total);
    }
}

template <class T>
inline double exact_product(const double* query, const T* row, int dim) {
    double product;
    exact_products<1>(query, 0, row, dim, &product);
    return product;
}

}  // namespace asif
