// What a search is made of: types of anchors, the product that proposes candidates, and which products pass.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>

#include "products.h"
#include "whole.h"

namespace asif {

constexpr int64_t SCORED_SHARE = 3;  // one score in so many takes as long as a product of every row, measured
constexpr int GROUP = 4;             // panels that meet a block of rows one after another, at most
constexpr float LOWEST = -std::numeric_limits<float>::infinity();
constexpr float NEVER = std::numeric_limits<float>::quiet_NaN();  // a limit that nothing reaches

inline float down(double value) { return std::nextafterf((float)value, LOWEST); }

// The storage types of anchors.
enum Type { HALF, BRAIN, FLOAT };

inline float canonical(Type type, const double* query, const void* row, int dim) {
    switch (type) {
        case HALF: return (float)exact_product(query, static_cast<const Half*>(row), dim);
        case BRAIN: return (float)exact_product(query, static_cast<const Brain*>(row), dim);
        default: return (float)exact_product(query, static_cast<const float*>(row), dim);
    }
}

// Write a row as pairs of int16; tells whether they hold it.
inline bool make_whole(Type type, const void* row, int dim, int16_t* high, int16_t* low) {
    const auto convert = [&](auto from) { return std::isfinite(sum(convert_whole_row(from, from, dim, high, low).residual)); };
    switch (type) {
        case HALF: return convert(static_cast<const Half*>(row));
        case BRAIN: return convert(static_cast<const Brain*>(row));
        default: return convert(static_cast<const float*>(row));
    }
}

inline void quantise(Type type, const void* row, int dim, char* to) {
    switch (type) {
        case HALF: return quantise_row(static_cast<const Half*>(row), dim, to);
        case BRAIN: return quantise_row(static_cast<const Brain*>(row), dim, to);
        default: return quantise_row(static_cast<const float*>(row), dim, to);
    }
}

template <class T>
std::unique_ptr<Product> product_of(const Queries& queries, const Anchors& anchors, int64_t k, Team& team) {
    if (queries.count <= FEW && anchors.whole)
        return std::make_unique<KeptFew>(queries, 4 * k > 3 * anchors.count(), team);
    if (queries.count <= FEW && anchors.quantised) return std::make_unique<Quantised>(queries);
    if (queries.count <= FEW && anchors.count() < SCORED_SHARE * k * queries.count) return std::make_unique<Canonical<T>>(queries);
    if (queries.count <= FEW) return std::make_unique<Stored<T>>(queries);
#if PRODUCT_INT16
    const bool is_shared = anchors.count() >= 5 * k && queries.count * k >= anchors.count();  // a row is scored for several
    if (anchors.whole ? anchors.count() >= 2 * k : is_shared) return std::make_unique<Whole<T>>(queries, team);
#endif
    if (anchors.count() < 5 * k) return std::make_unique<Exact<T>>(queries, team);
    return std::make_unique<Cheap<T>>(queries, team);
}

inline std::unique_ptr<Product> product_of(Type type, const Queries& queries, const Anchors& anchors, int64_t k, Team& team) {
    switch (type) {
        case HALF: return product_of<Half>(queries, anchors, k, team);
        case BRAIN: return product_of<Brain>(queries, anchors, k, team);
        default: return product_of<float>(queries, anchors, k, team);
    }
}

// Add a row to a tile.
inline void put(Finder& find, int64_t row, Tile& tile) {
    tile.rows[tile.count] = find(row);
    if (tile.quantised) tile.quantised[tile.count] = find.quantised(row);
    ++tile.count;
}

// Do use(row, query of the panel) for every entry of a block that reaches its query's limit. They are few: rows with
// one are found first, without branches.
template <class Use>
inline void each_passing(const float* results, int rows, const float* limits, Use use) {
    const Floats low = load(limits), high = load(limits + LANES);
    uint32_t passing[MOST_BLOCK_ROWS];
    int found[MOST_BLOCK_ROWS], count = 0;
    for (int row = 0; row < rows; ++row) {
        passing[count] = at_least(load(results + row * PANEL), low) |
                         at_least(load(results + row * PANEL + LANES), high) << LANES;
        found[count] = row;
        count += passing[count] != 0;
    }
    for (int at = 0; at < count; ++at)
        for (uint32_t left = passing[at]; left; left &= left - 1) use(found[at], __builtin_ctz(left));
}

// What every search is made from.
struct Proposals {
    Proposals(const Anchors& anchors, Type type, const float* queries, int64_t count, int64_t k, Team& team)
        : anchors_(anchors), type_(type), k_(k), team_(team), queries_(queries, count, anchors.dim, team),
          product_(product_of(type, queries_, anchors, k, team)) {}

    // Return how many rows tiles have: as many as give every thread one, at most `most`, in whole blocks of the product.
    int64_t tile_rows(int64_t most) const {
        const int64_t fair = (anchors_.count() + team_.size() - 1) / team_.size();
        return (std::min(most, fair) + product_->block_rows - 1) / product_->block_rows * product_->block_rows;
    }

    const Anchors& anchors_;
    const Type type_;
    const int64_t k_;
    Team& team_;
    const Queries queries_;
    const std::unique_ptr<Product> product_;
    std::atomic<bool> finite_{true};  // every anchor met so far
};

}  // namespace asif
