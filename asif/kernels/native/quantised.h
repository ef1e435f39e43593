// Rows in int8, a quarter of the bytes of float32: for a few queries, where reading the rows is what takes the time.
//
// A quantised row is a scale, a reach, and the entries in int8, zeros up to a multiple of STEP. For every query the product
// of quantised entries is off by at most the length of the query times the reach (docs/kernels.md).
#pragma once

#include <algorithm>
#include <limits>

#include "multiply.h"

namespace asif {

constexpr int STEP = 32;             // entries that are multiplied together
constexpr int HELD = 512;            // products of entries that can be added in int32
constexpr int LARGEST = 127;         // entry of a quantised row
constexpr int LARGEST_ASKED = 32767;  // of a query, in int16
constexpr float NEGLIGIBLE = 1e-20f;  // rows without a larger entry are taken for zero

struct Measures {
    float scale, reach;
};

inline int steps_of(int dim) { return (dim + STEP - 1) / STEP * STEP; }
inline size_t quantised_bytes(int dim) { return sizeof(Measures) + steps_of(dim); }

// Do use(first entry, vector) for all of a row, zeros after its end.
template <class T, class Use>
inline void each_vector(const T* row, int dim, Use use) {
    int at = 0;
    for (; at + LANES <= dim; at += LANES) use(at, load(row + at));
    if (at < dim) use(at, load_tail(row + at, dim - at));
}

inline float largest_lane(Floats value) {
    float largest = value[0];
    for (int lane = 1; lane < LANES; ++lane) largest = std::max(largest, value[lane]);
    return largest;
}

// Return the largest magnitude in a row.
template <class T>
inline float largest_entry(const T* row, int dim) {
    Floats largest{};
    each_vector(row, dim, [&](int, Floats value) { largest = larger(larger(value, -value), largest); });
    return largest_lane(largest);
}

// Quantise a row. Its reach bounds what a query of length one can gain or lose: the length of what rounding took away, and
// small shares of the length of what is left, for the rounding of the query and of float32 operations.
template <class T>
inline void quantise_row(const T* row, int dim, char* to) {
    constexpr float shift = 0x1.8p23f;  // rounds to whole numbers, and leaves them in the lowest bits
    const float largest = largest_entry(row, dim);
    const bool any = largest > NEGLIGIBLE;
    const float scale = any ? largest / LARGEST : 0, inverse = any ? LARGEST / largest : 0;
    int8_t* const entries = reinterpret_cast<int8_t*>(to + sizeof(Measures));
    std::fill(entries + dim / LANES * LANES, entries + steps_of(dim), (int8_t)0);
    Floats residual{}, length{};
    each_vector(row, dim, [&](int at, Floats value) {
        const Floats shifted = value * inverse + shift, kept = (shifted - shift) * scale;
        write_low_bytes(entries + at, bits_as<Words>(shifted));
        residual += (value - kept) * (value - kept), length += kept * kept;
    });
    const double of_query = 0.53 * std::sqrt((double)dim) / LARGEST_ASKED, grid = std::sqrt((double)dim) * 0x1p-27;
    const double reach = std::sqrt(sum(residual)) * (1 + 1e-4) + std::sqrt(sum(length)) * (1 + 1e-4) * (of_query + 0x1p-19) + grid;
    const Measures measures{scale, std::nextafterf((float)reach, INFINITY)};
    std::memcpy(to, &measures, sizeof measures);
}

// A query in int16, with its scale and its length, rounded up.
struct Asked {
    float scale, length;
};

inline Asked quantise_query(const float* query, int dim, int16_t* to) {
    const float largest = largest_entry(query, dim), inverse = largest > NEGLIGIBLE ? LARGEST_ASKED / largest : 0;
    Floats square{};
    each_vector(query, dim, [&](int, Floats value) { square += value * value; });
    for (int at = 0; at < dim; ++at) to[at] = (int16_t)std::lrintf(query[at] * inverse);
    std::fill(to + dim, to + steps_of(dim), (int16_t)0);
    const double length = std::sqrt(sum(square)) * (1 + 1e-4);
    return {inverse > 0 ? largest / LARGEST_ASKED : 0, std::nextafterf((float)length, INFINITY)};
}

#if defined(__AVX2__)

inline float sum_of(__m256 value) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

// Multiply ROWS quantised rows by QUERIES queries, `stride` apart: sums of products of entries.
template <int ROWS, int QUERIES>
inline void multiply_entries(const char* const* rows, const int16_t* queries, size_t stride, int dim, float (&sums)[ROWS][QUERIES]) {
    __m256 whole[ROWS][QUERIES] = {};
    for (int first = 0; first < steps_of(dim); first += 8 * HELD) {
        __m256i total[ROWS][QUERIES] = {};
        for (int at = first; at < std::min(first + 8 * HELD, steps_of(dim)); at += 16) {
            __m256i entries[ROWS];
#pragma GCC unroll 4
            for (int row = 0; row < ROWS; ++row)
                entries[row] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)(rows[row] + sizeof(Measures) + at)));
#pragma GCC unroll 8
            for (int query = 0; query < QUERIES; ++query) {
                const __m256i with = read<__m256i>(queries + query * stride + at);
#pragma GCC unroll 4
                for (int row = 0; row < ROWS; ++row)
                    total[row][query] = _mm256_add_epi32(total[row][query], _mm256_madd_epi16(entries[row], with));
            }
        }
        for (int row = 0; row < ROWS; ++row)
            for (int query = 0; query < QUERIES; ++query) whole[row][query] += _mm256_cvtepi32_ps(total[row][query]);
    }
    for (int row = 0; row < ROWS; ++row)
        for (int query = 0; query < QUERIES; ++query) sums[row][query] = sum_of(whole[row][query]);
}

#else

template <int ROWS, int QUERIES>
inline void multiply_entries(const char* const* rows, const int16_t* queries, size_t stride, int dim, float (&sums)[ROWS][QUERIES]) {
    for (int row = 0; row < ROWS; ++row)
        for (int query = 0; query < QUERIES; ++query) {
            const int8_t* const entries = reinterpret_cast<const int8_t*>(rows[row] + sizeof(Measures));
            const int16_t* const with = queries + query * stride;
            int64_t whole = 0;
            for (int first = 0; first < steps_of(dim); first += HELD) {
                int32_t total = 0;
                for (int at = first; at < std::min(first + HELD, steps_of(dim)); ++at) total += entries[at] * with[at];
                whole += total;
            }
            sums[row][query] = (float)whole;
        }
}

#endif

// Write, for each of `count` quantised rows and QUERIES queries, the most that their inner product can be; of a sample, about
// what it is.
template <int QUERIES>
inline void bound_products(const char* const* rows, int count, const int16_t* queries, const Asked* asked, size_t stride,
                           int dim, bool sample, float* block) {
    const auto some = [&](int row, auto at_once) {
        float sums[at_once.value][QUERIES];
        multiply_entries<at_once.value, QUERIES>(rows + row, queries, stride, dim, sums);
        for (int of = 0; of < at_once.value; ++of) {
            const Measures measures = read<Measures>(rows[row + of]);
            for (int query = 0; query < QUERIES; ++query)
                block[(row + of) * PANEL + query] = sums[of][query] * (measures.scale * asked[query].scale) +
                                                    (sample ? 0 : measures.reach * asked[query].length);
        }
    };
    constexpr int at_once = 4 / QUERIES;  // sums that stay in registers
    int row = 0;
    for (; row + at_once <= count; row += at_once) some(row, std::integral_constant<int, at_once>());
    for (; row < count; ++row) some(row, std::integral_constant<int, 1>());
}

}  // namespace asif
