// Exact comparison of sparse rows by way of an inverted index over the side that stays.
//
// Values are brought to about unit length by a power of two and rounded to the canonical grid, where float64 sums are
// exact in any order (docs/numerics.md). The index lists, for each tile of rows and each anchor, the rows that hold the
// anchor; where rows are nearly full it holds them as columns instead.
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
constexpr int64_t SHARE = 32;          // queries that meet a tile one after another, while it is in the cache
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

struct Index {
    const Posting* postings;   // by tile, by anchor, by row; or null
    const uint32_t* starts;    // [tiles, width + 1], from the tile's first posting
    const int64_t* offsets;    // [tiles], a tile's first posting
    const float* columns;      // [tiles, width, tile_rows] where tiles are full; or null
    const double* scales;      // [count]
    int64_t count, width, tile_rows;

    int64_t tiles() const { return (count + tile_rows - 1) / tile_rows; }
    int64_t rows(int64_t tile) const { return std::min(tile_rows, count - tile * tile_rows); }

    // Add up the products of the entries with every row of a tile.
    void products(int64_t tile, const std::vector<Entry>& entries, double* totals) const {
        if (columns) add_columns(columns + tile * width * tile_rows, rows(tile), entries, totals);
        else add_postings(postings + offsets[tile], starts + tile * (width + 1), rows(tile), entries, totals);
    }

   private:
    void add_postings(const Posting* of_tile, const uint32_t* begin, int64_t row_count,
                      const std::vector<Entry>& entries, double* totals) const {
        std::fill(totals, totals + row_count, 0.0);
        const size_t last = entries.size();
        for (size_t at = 0; at < last; ++at) {
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
};

// Some queries, read and scaled.
struct Share {
    int64_t first, count;
    std::vector<std::vector<Entry>> entries;
    std::vector<double> scales;

    // Read queries [first, first + count); false where one names an anchor outside the width.
    bool read(const int64_t* anchors, const float* values, int64_t k, int64_t width) {
        entries.resize(count), scales.resize(count);
        for (int64_t at = 0; at < count; ++at) {
            const int64_t from = (first + at) * k;
            scales[at] = scale_of(values + from, k);
            if (!entries_of(anchors + from, values + from, k, width, scales[at], entries[at])) return false;
        }
        return true;
    }
};

// Do use(row, score) for scores, totals times both scales, that reach a floor; use may raise it.
template <class Use>
void each_reaching(const double* totals, int64_t count, double scale, const double* scales, const float& floor, Use use) {
    for (int64_t row = 0; row < count; row += LANES) {
        const int64_t left = count - row;
        float scores[LANES];
        if (left >= LANES) {
            const Doubles low = read<Doubles>(totals + row) * scale * read<Doubles>(scales + row);
            const Doubles high = read<Doubles>(totals + row + WIDE) * scale * read<Doubles>(scales + row + WIDE);
            write(scores, __builtin_convertvector(low, HalfFloats));
            write(scores + WIDE, __builtin_convertvector(high, HalfFloats));
        } else {
            for (int at = 0; at < LANES; ++at)
                scores[at] = at < left ? (float)(totals[row + at] * scale * scales[row + at]) : NAN;
        }
        for (unsigned found = at_least(load(scores), broadcast(floor)); found; found &= found - 1) {
            const int at = __builtin_ctz(found);
            if (scores[at] >= floor) use(row + at, scores[at]);
        }
    }
}

size_t padded(int64_t rows) { return (rows + COLUMN_STEP - 1) / COLUMN_STEP * COLUMN_STEP; }

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
    std::atomic<int64_t> problem{0};
    const int64_t size = std::clamp<int64_t>(queries / (4 * threads), 1, SHARE);
    Team(threads, nullptr).each((queries + size - 1) / size, [&](int, int64_t item) {
        Share share{item * size, std::min(size, queries - item * size), {}, {}};
        if (!share.read(anchors, values, k, index->width)) {
            problem = -2;
            return;
        }
        Buffer<double> totals = buffer<double>(padded(index->tile_rows));
        for (int64_t tile = 0; tile < index->tiles(); ++tile)
            for (int64_t at = 0; at < share.count; ++at) {
                index->products(tile, share.entries[at], totals.get());
                const int64_t first = tile * index->tile_rows;
                float* const to = out + (share.first + at) * index->count + first;
                for (int64_t row = 0; row < index->rows(tile); ++row)
                    to[row] = (float)(totals[row] * share.scales[at] * index->scales[first + row]) + 0.0f;
            }
    });
    return problem;
} catch (const std::bad_alloc&) {
    return -1;
}

// Find the k best rows, k <= count, for every query. -2 for an anchor out of range.
ASIF_EXPORT int64_t asif_sparse_topk(const int64_t* anchors, const float* values, int64_t queries, int64_t query_k,
                                     const Index* index, int64_t k, int threads, int64_t* indices, float* scores) try {
    const int64_t tiles = index->tiles();
    const int64_t size = std::clamp<int64_t>(queries / (4 * threads), 1, SHARE), shares = (queries + size - 1) / size;
    const int64_t ranges = std::min(tiles, std::max<int64_t>(1, (4 * threads + shares - 1) / shares));  // of tiles
    std::vector<std::vector<Scored>> lists(queries * ranges);
    std::atomic<int64_t> problem{0};
    Team team(threads, nullptr);
    team.each(shares * ranges, [&](int, int64_t item) {
        const int64_t range = item / shares, first_query = item % shares * size;
        Share share{first_query, std::min(size, queries - first_query), {}, {}};
        if (!share.read(anchors, values, query_k, index->width)) {
            problem = -2;
            return;
        }
        Buffer<double> totals = buffer<double>(padded(index->tile_rows));
        const size_t full = 2 * k + 64;
        std::vector<float> floors(share.count, -std::numeric_limits<float>::infinity());
        for (int64_t tile = tiles * range / ranges; tile < tiles * (range + 1) / ranges; ++tile)
            for (int64_t at = 0; at < share.count; ++at) {
                index->products(tile, share.entries[at], totals.get());
                std::vector<Scored>& best = lists[(first_query + at) * ranges + range];
                const int64_t first = tile * index->tile_rows;
                each_reaching(totals.get(), index->rows(tile), share.scales[at], index->scales + first, floors[at],
                              [&](int64_t row, float score) {
                    if (score == floors[at] && best.size() >= (size_t)k) return;  // an equal one loses to smaller indices
                    best.push_back({score, (uint32_t)(first + row)});
                    if (best.size() < full) return;
                    std::nth_element(best.begin(), best.begin() + k - 1, best.end(), better);
                    best.resize(k);
                    floors[at] = best.back().score;
                });
            }
    });
    if (problem) return problem;
    team.each(queries, [&](int, int64_t query) {
        Sorter sorter;
        for (int64_t range = 0; range < ranges; ++range) {
            const auto& best = lists[query * ranges + range];
            sorter.add(best.data(), best.size());
        }
        sorter.best(k, indices + query * k, scores + query * k);
    });
    return 0;
} catch (const std::bad_alloc&) {
    return -1;
}
