// Vectors of whole numbers: rows rounded to int16 or int8, and sums of their products in int32.
//
// Each function is the instruction that a machine has for it, and else its plain definition, so that tests run the arithmetic
// of machines that they do not run on.
#pragma once

#include "lanes.h"

namespace asif {

typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef int64_t Longs __attribute__((vector_size(4 * LANES)));    // half as many lanes
typedef int16_t Pairs __attribute__((vector_size(4 * LANES)));    // two entries a lane
typedef int8_t PairBytes __attribute__((vector_size(2 * LANES)));
typedef int8_t Fours __attribute__((vector_size(4 * LANES)));     // four entries a lane
typedef int32_t HalfInts __attribute__((vector_size(2 * LANES)));

// Round to whole numbers, ties to even. Numbers beyond 2^30 and those that are not numbers become any.
inline Ints nearest(Floats value) {
#if USES_AVX512
    return (Ints)_mm512_cvtps_epi32((__m512)value);
#elif USES_AVX2
    return (Ints)_mm256_cvtps_epi32((__m256)value);
#elif USES_NEON
    return (Ints)vcvtnq_s32_f32((float32x4_t)value);
#else
    const Floats size = smaller(broadcast(0x1p30f), larger(value, -value)), shift = broadcast(0x1p23f);
    const Floats whole = size < shift ? (size + shift) - shift : size;
    return __builtin_convertvector(value < Floats{} ? -whole : whole, Ints);
#endif
}

// Write words as int16; those that do not fit as the nearest that does.
inline void write_shorts(int16_t* to, Ints words) {
#if USES_AVX512
    _mm256_storeu_si256((__m256i*)to, _mm512_cvtsepi32_epi16((__m512i)words));
#elif USES_AVX2
    const __m256i all = (__m256i)words;
    _mm_storeu_si128((__m128i*)to, _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
#elif USES_NEON
    vst1_s16(to, vqmovn_s32((int32x4_t)words));
#else
    const Ints most = Ints{} + INT16_MAX, least = Ints{} + INT16_MIN;
    words = words > most ? most : words;
    words = words < least ? least : words;
    write(to, __builtin_convertvector(words, Shorts));
#endif
}

// Entries in int8 as int16.
inline Pairs load_pairs(const int8_t* from) {
#if USES_AVX512
    return (Pairs)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)from));
#elif USES_AVX2
    return (Pairs)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)from));
#else
    return __builtin_convertvector(read<PairBytes>(from), Pairs);
#endif
}

// Add to each lane the products of its two entries, modulo 2^32. (NEON's go to other lanes: there, the sum of all counts.)
inline Ints add_pairs(Ints total, Pairs a, Pairs b) {
#if USES_AVX512 && defined(__AVX512VNNI__)
    return (Ints)_mm512_dpwssd_epi32((__m512i)total, (__m512i)a, (__m512i)b);
#elif USES_AVX512
    return (Ints)_mm512_add_epi32((__m512i)total, _mm512_madd_epi16((__m512i)a, (__m512i)b));
#elif USES_AVX2 && defined(__AVXVNNI__)
    return (Ints)_mm256_dpwssd_avx_epi32((__m256i)total, (__m256i)a, (__m256i)b);
#elif USES_AVX2
    return (Ints)_mm256_add_epi32((__m256i)total, _mm256_madd_epi16((__m256i)a, (__m256i)b));
#elif USES_NEON
    const int16x8_t left = (int16x8_t)a, right = (int16x8_t)b;
    const int32x4_t some = vmlal_s16((int32x4_t)total, vget_low_s16(left), vget_low_s16(right));
    return (Ints)vmlal_high_s16(some, left, right);
#elif USES_SSE2
    return (Ints)_mm_add_epi32((__m128i)total, _mm_madd_epi16((__m128i)a, (__m128i)b));
#else
    const Ints left = (Ints)a, right = (Ints)b;
    const Ints first = ((Ints)((Words)left << 16) >> 16) * ((Ints)((Words)right << 16) >> 16);
    const Ints second = (left >> 16) * (right >> 16);
    return (Ints)((Words)total + (Words)first + (Words)second);
#endif
}

// Add to each lane the products of its four entries.
inline Ints add_fours(Ints total, Fours a, Fours b) {
#if USES_NEON && defined(__ARM_FEATURE_DOTPROD)
    return (Ints)vdotq_s32((int32x4_t)total, (int8x16_t)a, (int8x16_t)b);
#else
    const Ints left = (Ints)a, right = (Ints)b;
    for (int place = 0; place < 4; ++place)
        total += ((Ints)((Words)left << 8 * place) >> 24) * ((Ints)((Words)right << 8 * place) >> 24);
    return total;
#endif
}

// The sums of neighbours, or of lanes that are half a vector apart.
inline Longs widened_sums(Ints words) {
#if USES_AVX512
    return (Longs)_mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256((__m512i)words)),
                                   _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64((__m512i)words, 1)));
#elif USES_AVX2
    return (Longs)_mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128((__m256i)words)),
                                   _mm256_cvtepi32_epi64(_mm256_extracti128_si256((__m256i)words, 1)));
#else
    HalfInts halves[2];
    write(halves, words);
    return __builtin_convertvector(halves[0], Longs) + __builtin_convertvector(halves[1], Longs);
#endif
}

inline int64_t sum(Longs value) {
    int64_t total = 0;
    for (int lane = 0; lane < LANES / 2; ++lane) total += value[lane];
    return total;
}

// Keep a sum apart from those that are computed next: mixed, they do not fit the registers.
inline void settle(Ints& sum) {
#if USES_AVX512
    asm volatile("" : "+v"(sum));
#elif USES_AVX2
    asm volatile("" : "+x"(sum));
#else
    (void)sum;
#endif
}

}  // namespace asif
