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
constexpr int LARGEST = 127;         // entry of a quantised row
#if (USES_NEON && defined(__ARM_FEATURE_DOTPROD)) || defined(EMULATED_FOURS)
#define PRODUCT_FOURS 1
constexpr int LARGEST_ASKED = 127 * 256 + 127;  // entry of a query, two parts in int8
constexpr int HELD = 1 << 16;                   // products of entries, of either part, that can be added in int32
#else
constexpr int LARGEST_ASKED = 32767;  // entry of a query, in int16
constexpr int HELD = 512;             // products of entries that can be added in int32
#endif
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
    const double summed = 0x1p-19 + steps_of(dim) / (LANES * HELD) * 0x1p-24;
    const double reach = std::sqrt(sum(residual)) * (1 + 1e-4) + std::sqrt(sum(length)) * (1 + 1e-4) * (of_query + summed) + grid;
    const Measures measures{scale, std::nextafterf((float)reach, INFINITY)};
    std::memcpy(to, &measures, sizeof measures);
}

// The entries of a quantised row.
inline const int8_t* entries_of(const char* row) { return reinterpret_cast<const int8_t*>(row + sizeof(Measures)); }

#if PRODUCT_FOURS

// Split an entry of a query, 256 * high + low.
inline void split(int16_t entry, int8_t& high, int8_t& low) {
    low = (int8_t)(entry & 255);
    high = (int8_t)((entry - low) / 256);
}

// Write a query's entries as their high parts and, after all of these, the low ones.
inline void write_query(const float* query, float inverse, int dim, int16_t* to) {
    int8_t *const high = reinterpret_cast<int8_t*>(to), *const low = high + steps_of(dim);
    std::fill(high, high + 2 * steps_of(dim), (int8_t)0);
    for (int at = 0; at < dim; ++at) split((int16_t)std::lrintf(query[at] * inverse), high[at], low[at]);
}

// Multiply ROWS quantised rows by QUERIES queries, `stride` apart: sums of products of entries.
template <int ROWS, int QUERIES>
inline void multiply_entries(const char* const* rows, const int16_t* queries, size_t stride, int dim, float (&sums)[ROWS][QUERIES]) {
    constexpr int LONGEST_SUM = LANES * HELD;
    int64_t whole[ROWS][QUERIES] = {};
    for (int first = 0; first < steps_of(dim); first += LONGEST_SUM) {
        Ints high[ROWS][QUERIES] = {}, low[ROWS][QUERIES] = {};
        for (int at = first; at < std::min(first + LONGEST_SUM, steps_of(dim)); at += 4 * LANES) {
            Fours entries[ROWS];
#pragma GCC unroll 4
            for (int row = 0; row < ROWS; ++row) {
                entries[row] = read<Fours>(entries_of(rows[row]) + at);
                if (ROWS > 1) __builtin_prefetch(rows[row] + at + ROWS * quantised_bytes(dim));  // one alone is foreseen
            }
#pragma GCC unroll 8
            for (int query = 0; query < QUERIES; ++query) {
                const int8_t* const parts = reinterpret_cast<const int8_t*>(queries + query * stride) + at;
                const Fours by_high = read<Fours>(parts), by_low = read<Fours>(parts + steps_of(dim));
#pragma GCC unroll 4
                for (int row = 0; row < ROWS; ++row) {
                    high[row][query] = add_fours(high[row][query], entries[row], by_high);
                    low[row][query] = add_fours(low[row][query], entries[row], by_low);
                }
            }
        }
        for (int row = 0; row < ROWS; ++row)
            for (int query = 0; query < QUERIES; ++query)
                whole[row][query] += 256 * sum(widened_sums(high[row][query])) + sum(widened_sums(low[row][query]));
    }
    for (int row = 0; row < ROWS; ++row)
        for (int query = 0; query < QUERIES; ++query) sums[row][query] = (float)whole[row][query];
}

#else

inline void write_query(const float* query, float inverse, int dim, int16_t* to) {
    for (int at = 0; at < dim; ++at) to[at] = (int16_t)std::lrintf(query[at] * inverse);
    std::fill(to + dim, to + steps_of(dim), (int16_t)0);
}

// Multiply ROWS quantised rows by QUERIES queries, `stride` apart: sums of products of entries.
template <int ROWS, int QUERIES>
inline void multiply_entries(const char* const* rows, const int16_t* queries, size_t stride, int dim, float (&sums)[ROWS][QUERIES]) {
    constexpr int LONGEST_SUM = LANES * HELD;
    Floats whole[ROWS][QUERIES] = {};
    for (int first = 0; first < steps_of(dim); first += LONGEST_SUM) {
        Ints total[ROWS][QUERIES] = {};
        for (int at = first; at < std::min(first + LONGEST_SUM, steps_of(dim)); at += 2 * LANES) {
            Pairs entries[ROWS];
#pragma GCC unroll 4
            for (int row = 0; row < ROWS; ++row) {
                entries[row] = load_pairs(entries_of(rows[row]) + at);
                if (ROWS > 1) __builtin_prefetch(rows[row] + at + ROWS * quantised_bytes(dim));  // one alone is foreseen
            }
#pragma GCC unroll 8
            for (int query = 0; query < QUERIES; ++query) {
                const Pairs with = read<Pairs>(queries + query * stride + at);
#pragma GCC unroll 4
                for (int row = 0; row < ROWS; ++row)
                    total[row][query] = add_pairs(total[row][query], entries[row], with);
            }
        }
        for (int row = 0; row < ROWS; ++row)
            for (int query = 0; query < QUERIES; ++query)
                whole[row][query] += __builtin_convertvector(total[row][query], Floats);
    }
    for (int row = 0; row < ROWS; ++row)
        for (int query = 0; query < QUERIES; ++query) sums[row][query] = sum(whole[row][query]);
}

#endif

// A query in int16, with its scale and its length, rounded up.
struct Asked {
    float scale, length;
};

inline Asked quantise_query(const float* query, int dim, int16_t* to) {
    const float largest = largest_entry(query, dim), inverse = largest > NEGLIGIBLE ? LARGEST_ASKED / largest : 0;
    Floats square{};
    each_vector(query, dim, [&](int, Floats value) { square += value * value; });
    write_query(query, inverse, dim, to);
    const double length = std::sqrt(sum(square)) * (1 + 1e-4);
    return {inverse > 0 ? largest / LARGEST_ASKED : 0, std::nextafterf((float)length, INFINITY)};
}

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
