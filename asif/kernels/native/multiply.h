// Products of a block of anchor rows and a panel of queries: in the cheapest precision the CPU has, in float64, and of a
// few queries with rows as they are stored.
//
// A panel holds PANEL queries, entry by entry (bfloat16: pair by pair), so that one vector holds one entry of LANES
// queries. Anchor rows are used as they lie. Results go to a small block [rows][PANEL] in the first-level cache.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include "integers.h"

namespace asif {

constexpr int PANEL = 2 * LANES;
constexpr int AHEAD_BYTES = 6144;  // rows so far ahead are fetched before they are needed
constexpr int FEW = 8;               // with so few queries, rows are read once, straight from where they are stored

#if defined(__AMX_BF16__)
#define PRODUCT_BF16 1
constexpr int BLOCK_ROWS = 32;
#else
#if USES_AVX2 || (USES_AVX512 && defined(__AVX512VNNI__)) || defined(EMULATED_PAIRS)
#define PRODUCT_INT16 1
#endif
#if USES_NEON
constexpr int BLOCK_ROWS = 8;
#else
constexpr int BLOCK_ROWS = LANES == 16 ? 12 : 6;
#endif
#endif

#if PRODUCT_BF16
typedef Brain Element;
constexpr int DEPTH_STEP = 32, PAIR = 2;
#elif PRODUCT_INT16
typedef int16_t Element;
constexpr int DEPTH_STEP = 2, PAIR = 2;
#else
typedef float Element;
constexpr int DEPTH_STEP = 1, PAIR = 1;
#endif

constexpr float FIXED = 0x1p14f;     // int16 entries are multiples of 1 / FIXED
constexpr float HALF_STEP = 0.501f / FIXED;  // by which rounding moves an entry at most, to the grid as well
constexpr float LONGEST = 1.99f;     // rows for which they and sums of their products fit

// Entries of a converted row: `depth`, padded with zeros, and a gap that keeps rows apart in the cache.
inline int depth_of(int dim) { return (dim + DEPTH_STEP - 1) / DEPTH_STEP * DEPTH_STEP; }
inline int stride_of(int dim) { return (depth_of(dim) + LANES - 1) / LANES * LANES + 64 / (int)sizeof(Element); }

// Squared lengths of a row and of what its conversion took away.
struct Lengths {
    Floats row{}, residual{};
};

inline void convert(Floats value, Element* to, Lengths& lengths) {
#if PRODUCT_BF16
    const __m256i rounded = (__m256i)_mm512_cvtneps_pbh((__m512)value);
    _mm256_storeu_si256((__m256i*)to, rounded);
    const Floats kept = (Floats)_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
    lengths.residual += (value - kept) * (value - kept);
#elif PRODUCT_INT16
    write_shorts(to, nearest(value * FIXED));
#else
    write(to, value);
#endif
    lengths.row += value * value;
}

// Convert a row; `later` is one to be fetched meanwhile.
template <class T>
inline Lengths convert_row(const T* row, const T* later, int dim, Element* to) {
    Lengths lengths, others;
    int at = 0;
    for (; at + 2 * LANES <= dim; at += 2 * LANES) {
        __builtin_prefetch(later + at);
        if (2 * LANES * sizeof(T) > 64) __builtin_prefetch(later + at + LANES);
        convert(load(row + at), to + at, lengths);
        convert(load(row + at + LANES), to + at + LANES, others);
    }
    for (; at + LANES <= dim; at += LANES) convert(load(row + at), to + at, lengths);
    if (at < dim) convert(load_tail(row + at, dim - at), to + at, lengths), at += LANES;
    for (; at < depth_of(dim); ++at) to[at] = Element{};
    lengths.row += others.row, lengths.residual += others.residual;
#if PRODUCT_INT16
    const bool fits = sum(lengths.row) < LONGEST * LONGEST;  // then an entry is off by half a step at most
    lengths.residual = broadcast(fits ? (float)dim / LANES * HALF_STEP * HALF_STEP : INFINITY);
#endif
    return lengths;
}

// Lay out PANEL converted queries, `stride` apart, as a panel: pairs of entries as two halves of LANES queries.
inline void pack_panel(const Element* queries, size_t stride, int depth, Element* panel) {
    constexpr int width = PANEL / PAIR;
    for (int half = 0; half < PAIR; ++half)
        for (int at = 0; at < depth; at += PAIR)
            for (int lane = 0; lane < width; ++lane)
                for (int of = 0; of < PAIR; ++of) *panel++ = queries[(half * width + lane) * stride + at + of];
}

#if defined(__AMX_BF16__)

struct TileShapes {  // as the processor reads it: eight tiles of 16 rows of 64 bytes
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

struct Processor {  // tiles must be shaped before use, on each thread, and let go afterwards
    Processor() {
        static const TileShapes shapes;  // static: GCC 12 may drop writes to a local one, of which it sees 8 bytes read
        _tile_loadconfig(&shapes);
    }
    ~Processor() { _tile_release(); }
    Processor(const Processor&) = delete;
};

// Multiply BLOCK_ROWS converted rows by the queries of a panel, or by those of its first half.
template <int HALVES>
inline void multiply(const Element* rows, size_t stride, const Element* panel, int depth, float* block) {
    _tile_zero(0);
    _tile_zero(2);
    if constexpr (HALVES == 2) {
        _tile_zero(1);
        _tile_zero(3);
    }
    for (int at = 0; at < depth; at += 32) {
        _tile_loadd(4, rows + at, stride * 2);
        _tile_loadd(5, rows + 16 * stride + at, stride * 2);
        _tile_loadd(6, panel + at * LANES, 64);
        if constexpr (HALVES == 2) {
            _tile_loadd(7, panel + (size_t)(depth + at) * LANES, 64);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(2, 5, 6);
    }
    _tile_stored(0, block, PANEL * 4);
    _tile_stored(2, block + 16 * PANEL, PANEL * 4);
    if constexpr (HALVES == 2) {
        _tile_stored(1, block + LANES, PANEL * 4);
        _tile_stored(3, block + 16 * PANEL + LANES, PANEL * 4);
    }
}

#else

struct Processor {
    Processor() {}  // nothing to prepare
};

#if PRODUCT_INT16

template <int HALVES, int... ROWS>
inline void multiply_each(const Element* rows, size_t stride, const Element* panel, int depth, float* block,
                          std::integer_sequence<int, ROWS...>) {
    Ints total[BLOCK_ROWS][HALVES] = {};
    for (int at = 0; at < depth; at += 2) {
        Pairs queries[HALVES];
#pragma GCC unroll 2
        for (int half = 0; half < HALVES; ++half) queries[half] = read<Pairs>(panel + (half * (size_t)depth + at) * LANES);
        const auto add = [&](const Element* entries, Ints (&sums)[HALVES]) {
            const Pairs pair = (Pairs)(Ints{} + read<int32_t>(entries));
#pragma GCC unroll 2
            for (int half = 0; half < HALVES; ++half) settle(sums[half] = add_pairs(sums[half], pair, queries[half]));
        };
        (add(rows + ROWS * stride + at, total[ROWS]), ...);
    }
    const auto put = [&](int row, int half, Ints value) {
        write(block + row * PANEL + half * LANES, __builtin_convertvector(value, Floats) * (1 / (FIXED * FIXED)));
    };
    for (int half = 0; half < HALVES; ++half) (put(ROWS, half, total[ROWS][half]), ...);
}

template <int HALVES>
inline void multiply(const Element* rows, size_t stride, const Element* panel, int depth, float* block) {
    multiply_each<HALVES>(rows, stride, panel, depth, block, std::make_integer_sequence<int, BLOCK_ROWS>());
}

#else

template <int HALVES>
inline void multiply(const Element* rows, size_t stride, const Element* panel, int depth, float* block) {
    Floats total[BLOCK_ROWS][HALVES] = {};
    for (int at = 0; at < depth; ++at) {
        Floats queries[HALVES];
#pragma GCC unroll 2
        for (int half = 0; half < HALVES; ++half) queries[half] = load(panel + at * PANEL + half * LANES);
#pragma GCC unroll 12
        for (int row = 0; row < BLOCK_ROWS; ++row) {
            const Floats entry = broadcast(rows[row * stride + at]);
#pragma GCC unroll 2
            for (int half = 0; half < HALVES; ++half) total[row][half] += entry * queries[half];
        }
    }
#pragma GCC unroll 12
    for (int row = 0; row < BLOCK_ROWS; ++row)
        for (int half = 0; half < HALVES; ++half) write(block + row * PANEL + half * LANES, total[row][half]);
}

#endif
#endif

// The exact product of rows and queries on the grid, both float64: canonical scores. For anchors so few that most of
// them belong to the top k.
constexpr int EXACT_ROWS = LANES == 16 ? 6 : 3;

template <int HALVES>
inline void multiply_exactly(const double* rows, size_t stride, const double* panel, int dim, float* block) {
    constexpr int WIDE = LANES / 2, PARTS = 2 * HALVES;
    Doubles total[EXACT_ROWS][PARTS] = {};
    for (int at = 0; at < dim; ++at) {
        Doubles queries[PARTS];
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; ++part) queries[part] = read<Doubles>(panel + at * PANEL + part * WIDE);
#pragma GCC unroll 6
        for (int row = 0; row < EXACT_ROWS; ++row) {
            const Doubles entry = rows[row * stride + at] - Doubles{};  // x - 0 is x: nothing is computed
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; ++part) total[row][part] += entry * queries[part];
        }
    }
    for (int row = 0; row < EXACT_ROWS; ++row)
        for (int part = 0; part < PARTS; ++part)
            write(block + row * PANEL + part * WIDE, __builtin_convertvector(total[row][part], HalfFloats));
}

// A few queries, float32, `stride` apart and zero up to a multiple of LANES, times ROWS rows as they are stored.
template <int ROWS, int QUERIES, class T>
inline void multiply_few(const T* const* rows, const T* const* later, const float* queries, size_t stride, int dim, float* block) {
    Floats total[ROWS][QUERIES] = {};
    auto add = [&](const Floats (&entries)[ROWS], int at) {
#pragma GCC unroll 8
        for (int query = 0; query < QUERIES; ++query) {
            const Floats with = load(queries + query * stride + at);
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; ++row) total[row][query] += entries[row] * with;
        }
    };
    int at = 0;
    Floats entries[ROWS];
    for (; at + LANES <= dim; at += LANES) {
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; ++row) {
            entries[row] = load(rows[row] + at);
            if (at * sizeof(T) % 64 == 0) __builtin_prefetch(later[row] + at);
        }
        add(entries, at);
    }
    if (at < dim) {
        for (int row = 0; row < ROWS; ++row) entries[row] = load_tail(rows[row] + at, dim - at);
        add(entries, at);
    }
    for (int row = 0; row < ROWS; ++row)
        for (int query = 0; query < QUERIES; ++query) block[row * PANEL + query] = sum(total[row][query]);
}

// As many queries times `count` rows; those after them are fetched meanwhile, `more` of which exist.
template <int QUERIES, class T>
inline void multiply_rows(const T* const* rows, int count, int more, const float* queries, size_t stride, int dim,
                          float* block) {
    constexpr int at_once = QUERIES == 1 ? 4 : 2;
    const int ahead = std::max(at_once, AHEAD_BYTES / (dim * (int)sizeof(T)));
    int row = 0;
    for (; row + at_once <= count; row += at_once) {
        const T* const* later = rows + std::min(row + ahead, count + more - at_once);
        multiply_few<at_once, QUERIES>(rows + row, later, queries, stride, dim, block + row * PANEL);
    }
    for (; row < count; ++row)
        multiply_few<1, QUERIES>(rows + row, rows + row, queries, stride, dim, block + row * PANEL);
}

// Do use(first query, how many) for all queries: MOST at a time, then half as many, and so on.
template <int MOST, class Use>
inline void each_batch(int queries, Use use, int first = 0) {
    for (; first + MOST <= queries; first += MOST) use(first, std::integral_constant<int, MOST>());
    if constexpr (MOST > 1) each_batch<MOST / 2>(queries, use, first);
}

}  // namespace asif
