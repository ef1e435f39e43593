// Exact comparison of sparse rows by way of an inverted index over the side that stays.
//
// Values are brought to about unit length by a power of two and rounded to the canonical grid, where float64 sums are
// exact in any order (docs/numerics.md). The index lists, for each tile of rows and each anchor, the rows that hold the
// anchor; where rows are nearly full it holds them as columns instead, and several queries are multiplied densely.
#include <algorithm>
#include <cmath>
#include <vector>

#include "export.h"
#include "lanes.h"
#include "memory.h"
#include "parallel.h"
#include "select.h"

namespace asif {
namespace {

constexpr int WIDE = LANES / 2;
constexpr int COLUMN_STEP = 8 * WIDE;  // rows of a full tile that are summed in registers; tiles are multiples of it
constexpr int64_t SHARE = 36;          // queries that meet a tile one after another, while it is in the cache
constexpr int DENSE = 6;               // queries that full tiles are multiplied by together
constexpr int PARTS = LANES == 16 ? 4 : 2;  // vectors of rows whose DENSE sums each stay in registers
constexpr int64_t DEPTH = 64;          // anchors of a full tile whose columns stay in the first-level cache
constexpr int64_t DENSE_BYTES = 4 << 20;    // of a share's dense queries, if that leaves room for DENSE of them
constexpr int64_t DENSE_GAIN = 6;      // a dense product takes so much less time than one by entries, measured
constexpr int LINE = 8;                // postings in a line of the cache
constexpr int AHEAD = 8;               // anchors whose postings are fetched before they are needed

struct Posting {
    float value;
    uint32_t row;  // within the tile
};

// Return the power of two for which the row is between 0.7 and 1.4 long, 1 for a zero row. Lengths are taken of 16-bit
// integers, so that sums are exact and the choice does not depend on their order.
double scale_of(const float* values, int64_t k) {
    const auto each_vector = [&](auto use) {
        int64_t at = 0;
        for (; at + LANES <= k; at += LANES) use(load(values + at));
        if (at < k) use(load_tail(values + at, (int)(k - at)));
    };
    Floats peaks{};
    each_vector([&](Floats some) { peaks = larger(larger(some, -some), peaks); });
    float largest = 0;
    for (int lane = 0; lane < LANES; ++lane) largest = std::max(largest, peaks[lane]);
    if (!(largest > 0)) return 1;
    const int exponent = std::ilogb(largest);
    const double finer = std::scalbn(1.0, 15 - exponent), to_integer = 0x1.8p52;  // adding that rounds
    Doubles squares{};
    each_vector([&](Floats some) {
        for (int half = 0; half < 2; ++half) {
            const Doubles part = (load_wide((const float*)&some + half * WIDE) * finer + to_integer) - to_integer;
            squares += part * part;
        }
    });
    double square = sum(squares);
    int more = 0;
    while (square > 1.96 * 0x1p30) square /= 4, ++more;
    return std::scalbn(1.0, exponent + more);
}

struct Entry {
    uint32_t anchor;
    float value;  // on the grid, which float32 holds exactly
};

// The entries of a row that count, on the grid; false where one lies outside the width.
bool entries_of(const int64_t* anchors, const float* values, int64_t k, int64_t width, double scale,
                std::vector<Entry>& entries) {
    entries.resize(k);
    const double inverse = 1 / scale;  // a power of two as well
    size_t count = 0;
    bool outside = false;
    for (int64_t at = 0; at < k; ++at) {
        outside |= (uint64_t)anchors[at] >= (uint64_t)width;
        entries[count] = {(uint32_t)anchors[at], (float)on_grid((double)values[at] * inverse)};
        count += entries[count].value != 0;
    }
    entries.resize(count);
    return !outside;
}

// Queries [first, first + count), read and scaled.
struct Share {
    int64_t first, count;
    std::vector<std::vector<Entry>> entries;
    std::vector<double> scales;
    Buffer<double> dense;  // [groups, width, DENSE], if not null: the entries, zeros between them and for missing queries

    // Read the queries; false where one names an anchor outside the width.
    bool read(const int64_t* anchors, const float* values, int64_t k, int64_t width) {
        entries.resize(count), scales.resize(count);
        for (int64_t at = 0; at < count; ++at) {
            const int64_t from = (first + at) * k;
            scales[at] = scale_of(values + from, k);
            if (!entries_of(anchors + from, values + from, k, width, scales[at], entries[at])) return false;
        }
        return true;
    }

    int64_t groups() const { return (count + DENSE - 1) / DENSE; }

    // Make the queries dense if that saves time.
    void make_dense(int64_t width) {
        size_t total = 0;
        for (const auto& some : entries) total += some.size();
        const size_t size = groups() * width * DENSE;
        if (DENSE_GAIN * total <= size) return;
        dense = buffer<double>(size);
        std::fill_n(&dense[0], size, 0.0);
        for (int64_t at = 0; at < count; ++at) {
            double* const query = &dense[at / DENSE * width * DENSE + at % DENSE];
            for (const Entry& each : entries[at]) query[each.anchor * DENSE] += (double)each.value;
        }
    }
};

// Add the products of DENSE queries and PARTS vectors of rows over some anchors to sums, a tile apart.
inline void multiply_columns(const float* columns, int64_t tile_rows, const double* queries, int64_t depth, double* totals) {
    Doubles sums[DENSE][PARTS] = {};
    for (int64_t at = 0; at < depth; ++at) {
        Doubles values[PARTS];
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; ++part) values[part] = load_wide(columns + at * tile_rows + part * WIDE);
#pragma GCC unroll 6
        for (int query = 0; query < DENSE; ++query) {
            const Doubles with = queries[at * DENSE + query] - Doubles{};  // x - 0 is x: nothing is computed
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; ++part) sums[query][part] += values[part] * with;
        }
    }
    for (int query = 0; query < DENSE; ++query)
        for (int part = 0; part < PARTS; ++part) {
            double* const to = totals + query * tile_rows + part * WIDE;
            write(to, read<Doubles>(to) + sums[query][part]);
        }
}

struct Index {
    const Posting* postings;   // by tile, by anchor, by row; or null
    const uint32_t* starts;    // [tiles, width + 1], from the tile's first posting
    const int64_t* offsets;    // [tiles], a tile's first posting
    const float* columns;      // [tiles, width, tile_rows] where tiles are full; or null
    const double* scales;      // [count]
    int64_t count, width, tile_rows;

    int64_t tiles() const { return (count + tile_rows - 1) / tile_rows; }
    int64_t rows(int64_t tile) const { return std::min(tile_rows, count - tile * tile_rows); }

    // Add up the products of every query of a share with every row of a tile; use(query of the share, totals).
    template <class Use>
    void products(int64_t tile, const Share& share, double* totals, Use use) const {
        if (share.dense) add_dense(columns + tile * width * tile_rows, rows(tile), share, totals);
        for (int64_t at = 0; at < share.count; ++at) {
            if (share.dense) use(at, totals + at * tile_rows);
            else add_entries(tile, share.entries[at], totals), use(at, totals);
        }
    }

   private:
    void add_entries(int64_t tile, const std::vector<Entry>& entries, double* totals) const {
        if (columns) add_columns(columns + tile * width * tile_rows, rows(tile), entries, totals);
        else add_postings(postings + offsets[tile], starts + tile * (width + 1), rows(tile), entries, totals);
    }

    void add_postings(const Posting* of_tile, const uint32_t* begin, int64_t row_count,
                      const std::vector<Entry>& entries, double* totals) const {
        std::fill(totals, totals + row_count, 0.0);
        const size_t last = entries.size();
        for (size_t at = 0; at < last; ++at) {
            __builtin_prefetch(begin + entries[std::min(at + 2 * AHEAD, last - 1)].anchor);
            __builtin_prefetch(of_tile + begin[entries[std::min(at + AHEAD, last - 1)].anchor]);
            const Posting* next = of_tile + begin[entries[std::min(at + 1, last - 1)].anchor];
            const double value = (double)entries[at].value;
            const Posting* const end = of_tile + begin[entries[at].anchor + 1];
            for (const Posting* each = of_tile + begin[entries[at].anchor]; each < end;) {
                __builtin_prefetch(next += LINE);
                for (const Posting* const stop = std::min(each + LINE, end); each < stop; ++each)
                    totals[each->row] += value * (double)each->value;
            }
        }
    }

    void add_columns(const float* of_tile, int64_t row_count, const std::vector<Entry>& entries, double* totals) const {
        for (int64_t row = 0; row < row_count; row += COLUMN_STEP) {
            Doubles sums[8] = {};
            for (const Entry& each : entries) {
                const float* column = of_tile + each.anchor * tile_rows + row;
                const Doubles value = Doubles{} + (double)each.value;
                for (int part = 0; part < 8; ++part) sums[part] += value * load_wide(column + part * WIDE);
            }
            for (int part = 0; part < 8; ++part) write(totals + row + part * WIDE, sums[part]);
        }
    }

    void add_dense(const float* of_tile, int64_t row_count, const Share& share, double* totals) const {
        std::fill_n(totals, share.groups() * DENSE * tile_rows, 0.0);
        for (int64_t first = 0; first < width; first += DEPTH)
            for (int64_t group = 0; group < share.groups(); ++group)
                for (int64_t row = 0; row < row_count; row += PARTS * WIDE)
                    multiply_columns(of_tile + first * tile_rows + row, tile_rows, &share.dense[(group * width + first) * DENSE],
                                     std::min(DEPTH, width - first), totals + group * DENSE * tile_rows + row);
    }
};

size_t padded(int64_t rows) { return (rows + COLUMN_STEP - 1) / COLUMN_STEP * COLUMN_STEP; }

// How queries and tiles are divided among threads: shares of queries, each with ranges of tiles.
struct Division {
    int64_t size, shares, ranges;

    Division(const Index& index, int64_t queries, int threads) {
        const int64_t items = 4 * threads;  // at least, if there are so many
        size = std::clamp<int64_t>(queries / items, 1, SHARE);
        if (index.columns) {  // there are many tiles
            const int64_t fitting = DENSE_BYTES / (int64_t)sizeof(double) / std::max<int64_t>(index.width, 1);
            size = std::clamp<int64_t>(fitting, DENSE, SHARE);
        }
        shares = (queries + size - 1) / size;
        ranges = std::min(index.tiles(), shares < items ? items / std::max<int64_t>(shares, 1) : 1);
    }
};

// Compare sparse queries with all rows; use(query, range, tile, scale of the query, totals). -2 for an anchor out of range.
template <class Use>
int64_t compare(const int64_t* anchors, const float* values, int64_t queries, int64_t k, const Index& index,
                const Division& division, Team& team, Use use) {
    std::atomic<int64_t> problem{0};
    team.each(division.shares * division.ranges, [&](int, int64_t item) {
        const int64_t range = item / division.shares, first = item % division.shares * division.size;
        Share share{first, std::min(division.size, queries - first), {}, {}, {}};
        if (!share.read(anchors, values, k, index.width)) {
            problem = -2;
            return;
        }
        if (index.columns) share.make_dense(index.width);
        Buffer<double> totals = buffer<double>(padded(index.tile_rows) * (share.dense ? share.groups() * DENSE : 1));
        const int64_t tiles = index.tiles();
        for (int64_t tile = tiles * range / division.ranges; tile < tiles * (range + 1) / division.ranges; ++tile)
            index.products(tile, share, totals.get(), [&](int64_t at, const double* of_query) {
                use(share.first + at, range, tile, share.scales[at], of_query);
            });
    });
    return problem;
}

// Do use(row, score) for scores, totals times both scales, that reach a floor; use may raise it.
template <class Use>
void each_reaching(const double* totals, int64_t count, double scale, const double* scales, const float& floor, Use use) {
    for (int64_t row = 0; row < count; row += LANES) {
        const int64_t left = count - row;
        Floats scores{};
        if (left >= LANES) {
            scores = narrow(read<Doubles>(totals + row) * scale * read<Doubles>(scales + row),
                            read<Doubles>(totals + row + WIDE) * scale * read<Doubles>(scales + row + WIDE));
        } else {
            for (int at = 0; at < LANES; ++at)
                scores[at] = at < left ? (float)(totals[row + at] * scale * scales[row + at]) : NAN;
        }
        for (unsigned found = at_least(scores, broadcast(floor)); found; found &= found - 1) {
            const int at = __builtin_ctz(found);
            if (scores[at] >= floor) use(row + at, scores[at]);
        }
    }
}

// The best rows that a query met, and what others must reach.
struct Best {
    std::vector<Scored> rows;
    float floor = -std::numeric_limits<float>::infinity();

    void add(Scored row, size_t k) {
        if (row.score == floor && rows.size() >= k) return;  // an equal one loses to smaller indices
        rows.push_back(row);
        if (rows.size() < 2 * k + 64) return;
        std::nth_element(rows.begin(), rows.begin() + k - 1, rows.end(), better);
        rows.resize(k);
        floor = rows.back().score;
    }
};

}  // namespace
}  // namespace asif

using namespace asif;

// Scale rows [count, k]: their powers of two, and how many entries each tile will hold; -2 for an anchor out of range.
ASIF_EXPORT int64_t asif_sparse_measure(const int64_t* anchors, const float* values, int64_t count, int64_t k,
                                       int64_t width, int64_t tile_rows, int threads, double* scales, int64_t* sizes) try {
    std::atomic<int64_t> problem{0};
    Team(threads, nullptr).each((count + tile_rows - 1) / tile_rows, [&](int, int64_t tile) {
        std::vector<Entry> entries;
        sizes[tile] = 0;
        for (int64_t row = tile * tile_rows; row < std::min((tile + 1) * tile_rows, count); ++row) {
            scales[row] = scale_of(values + row * k, k);
            if (!entries_of(anchors + row * k, values + row * k, k, width, scales[row], entries)) problem = -2;
            sizes[tile] += (int64_t)entries.size();
        }
    });
    return problem;
} catch (const std::bad_alloc&) {
    return -1;
}

// Fill the index: postings and starts, or columns, whichever is not null. Returns 0.
ASIF_EXPORT int64_t asif_sparse_fill(const int64_t* anchors, const float* values, const double* scales, int64_t count,
                                 int64_t k, int64_t width, int64_t tile_rows, int threads, const int64_t* offsets,
                                 Posting* postings, uint32_t* starts, float* columns) try {
    Team(threads, nullptr).each((count + tile_rows - 1) / tile_rows, [&](int, int64_t tile) {
        const int64_t first = tile * tile_rows, last = std::min(first + tile_rows, count);
        std::vector<Entry> entries;
        auto each_entry = [&](auto use) {
            for (int64_t row = first; row < last; ++row) {
                entries_of(anchors + row * k, values + row * k, k, width, scales[row], entries);
                for (const Entry& each : entries) use(row - first, each);
            }
        };
        if (columns) {
            float* const of_tile = columns + tile * width * tile_rows;
            each_entry([&](int64_t row, const Entry& each) { of_tile[each.anchor * tile_rows + row] += each.value; });
            return;
        }
        uint32_t* const begin = starts + tile * (width + 1);
        std::fill(begin, begin + width + 1, 0u);
        each_entry([&](int64_t, const Entry& each) { ++begin[each.anchor + 1]; });
        for (int64_t anchor = 0; anchor < width; ++anchor) begin[anchor + 1] += begin[anchor];
        each_entry([&](int64_t row, const Entry& each) {
            postings[offsets[tile] + begin[each.anchor]++] = {each.value, (uint32_t)row};
        });
        for (int64_t anchor = width; anchor > 0; --anchor) begin[anchor] = begin[anchor - 1];
        begin[0] = 0;
    });
    return 0;
} catch (const std::bad_alloc&) {
    return -1;
}

// Score every row for every query: out [queries, count]. -2 for an anchor out of range.
ASIF_EXPORT int64_t asif_sparse_similarity(const int64_t* anchors, const float* values, int64_t queries, int64_t k,
                                           const Index* index, int threads, float* out) try {
    Team team(threads, nullptr);
    return compare(anchors, values, queries, k, *index, Division(*index, queries, threads), team,
                   [&](int64_t query, int64_t, int64_t tile, double scale, const double* totals) {
        const int64_t first = tile * index->tile_rows;
        float* const to = out + query * index->count + first;
        for (int64_t row = 0; row < index->rows(tile); ++row)
            to[row] = (float)(totals[row] * scale * index->scales[first + row]) + 0.0f;
    });
} catch (const std::bad_alloc&) {
    return -1;
}

// Find the k best rows, k <= count, for every query. -2 for an anchor out of range.
ASIF_EXPORT int64_t asif_sparse_topk(const int64_t* anchors, const float* values, int64_t queries, int64_t query_k,
                                     const Index* index, int64_t k, int threads, int64_t* indices, float* scores) try {
    const Division division(*index, queries, threads);
    std::vector<Best> lists(queries * division.ranges);
    Team team(threads, nullptr);
    const int64_t problem = compare(anchors, values, queries, query_k, *index, division, team,
                                    [&](int64_t query, int64_t range, int64_t tile, double scale, const double* totals) {
        Best& best = lists[query * division.ranges + range];
        const int64_t first = tile * index->tile_rows;
        each_reaching(totals, index->rows(tile), scale, index->scales + first, best.floor,
                      [&](int64_t row, float score) { best.add({score, (uint32_t)(first + row)}, k); });
    });
    if (problem) return problem;
    team.each(queries, [&](int, int64_t query) {
        Sorter sorter;
        for (int64_t range = 0; range < division.ranges; ++range) {
            const auto& rows = lists[query * division.ranges + range].rows;
            sorter.add(rows.data(), rows.size());
        }
        sorter.best(k, indices + query * k, scores + query * k);
    });
    return 0;
} catch (const std::bad_alloc&) {
    return -1;
}
