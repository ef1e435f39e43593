// Rows as two int16 numbers an entry, which together are the entry on the canonical grid: the high ones propose, and both
// together give canonical scores in integers, faster than in float64. For rows that several queries score, or that are kept.
#pragma once

#include "products.h"

namespace asif {

constexpr int LOW_BITS = 12;    // 26 bits of the grid, less the 14 of the high part
constexpr int TOGETHER = 1024;  // products of entries that can be added in int32, lane by lane

// Entries from row to row: zeros up to a multiple of what is multiplied together, and a gap that keeps rows apart in the cache.
inline size_t whole_stride(int dim) { return (dim + 2 * LANES - 1) / (2 * LANES) * (2 * LANES) + 64 / sizeof(int16_t); }

// Entries of the high parts of so many rows, with room for a block; the low parts follow, as many.
inline size_t whole_plane(int64_t rows, int dim) { return (rows + MOST_BLOCK_ROWS) * whole_stride(dim); }

// Convert a row to its high and low parts.
template <class T>
inline Lengths convert_whole_row(const T* row, const T* later, int dim, int16_t* high, int16_t* low) {
    Lengths lengths;
    std::fill(high + dim / LANES * LANES, high + whole_stride(dim), (int16_t)0);
    std::fill(low + dim / LANES * LANES, low + whole_stride(dim), (int16_t)0);
    each_vector(row, dim, [&](int at, Floats value) {
        __builtin_prefetch(later + at);
        const Ints whole = nearest(value * 0x1p26f);
        const Ints upper = (whole + (1 << (LOW_BITS - 1))) >> LOW_BITS;
        write_shorts(high + at, upper);
        write_shorts(low + at, whole - (Ints)((Words)upper << LOW_BITS));
        lengths.row += value * value;
    });
    const bool fits = sum(lengths.row) < LONGEST * LONGEST;
    lengths.residual = broadcast(fits ? (float)dim / LANES * HALF_STEP * HALF_STEP : INFINITY);
    return lengths;
}

// The canonical inner product of two rows, each with its low parts so many entries after the high ones.
inline float whole_product(const int16_t* row, size_t row_plane, const int16_t* query, size_t query_plane, int dim) {
    Longs whole{};
    for (int first = 0; first < dim; first += TOGETHER) {
        Ints upper{}, mixed{}, lower{};
        for (int at = first; at < std::min(first + TOGETHER, dim); at += 2 * LANES) {
            const Pairs high = read<Pairs>(row + at), low = read<Pairs>(row + row_plane + at);
            const Pairs by_high = read<Pairs>(query + at), by_low = read<Pairs>(query + query_plane + at);
            upper = add_pairs(upper, high, by_high);
            mixed = add_pairs(add_pairs(mixed, high, by_low), low, by_high);
            lower = add_pairs(lower, low, by_low);
        }
        whole += (widened_sums(upper) << 2 * LOW_BITS) + (widened_sums(mixed) << LOW_BITS) + widened_sums(lower);
    }
    return (float)sum(whole) * 0x1p-52f;
}

// The products of the high parts of ROWS rows and QUERIES queries.
template <int ROWS, int QUERIES>
inline void multiply_high(const int16_t* rows, const int16_t* queries, int dim, float* block) {
    const size_t stride = whole_stride(dim);
    Ints total[ROWS][QUERIES] = {};
    for (int at = 0; at < dim; at += 2 * LANES) {
        Pairs entries[ROWS];
#pragma GCC unroll 4
        for (int row = 0; row < ROWS; ++row) entries[row] = read<Pairs>(rows + row * stride + at);
#pragma GCC unroll 8
        for (int query = 0; query < QUERIES; ++query) {
            const Pairs with = read<Pairs>(queries + query * 2 * stride + at);
#pragma GCC unroll 4
            for (int row = 0; row < ROWS; ++row) total[row][query] = add_pairs(total[row][query], entries[row], with);
        }
    }
    for (int row = 0; row < ROWS; ++row)
        for (int query = 0; query < QUERIES; ++query)
            block[row * PANEL + query] = sum(__builtin_convertvector(total[row][query], Floats)) * (1 / (FIXED * FIXED));
}

// A few queries in this form, and what bounds the error of products of high parts.
class WholeQueries {
   public:
    WholeQueries(const Queries& queries, Team& team)
        : stride_(whole_stride(queries.dim)), entries_(buffer<int16_t>(queries.count * 2 * stride_)),
          bounds_(buffer<Bound>(queries.count)) {
        team.each((queries.count + PANEL - 1) / PANEL, [&](int, int64_t panel) {
            for (int64_t at = panel * PANEL; at < std::min((panel + 1) * PANEL, queries.count); ++at) {
                int16_t* const to = &entries_[at * 2 * stride_];
                const Lengths lengths = convert_whole_row(queries[at], queries[at], queries.dim, to, to + stride_);
                bounds_[at] = Bound(root(sum(lengths.row)), root(sum(lengths.residual)), queries.dim);
            }
        });
    }

    const int16_t* operator[](int64_t at) const { return &entries_[at * 2 * stride_]; }
    size_t plane() const { return stride_; }
    const Bound& bound(int64_t at) const { return bounds_[at]; }

   private:
    const size_t stride_;
    Buffer<int16_t> entries_;
    Buffer<Bound> bounds_;
};

// Measure a tile of kept rows, whose lengths were seen to when they were made.
inline void measure_kept(Tile& tile, int dim) {
    tile.length = LONGEST, tile.residual = root(dim) * HALF_STEP, tile.finite = true;
}

// Kept rows and a few queries: products of high parts, or canonical scores where most rows must be scored anyway.
class KeptFew : public Product {
   public:
    KeptFew(const Queries& queries, bool exact, Team& team) : Product(queries, MOST_BLOCK_ROWS), asked_(queries, team), exact_(exact) {}

    size_t row_bytes() const override { return 0; }
    void make_ready(Tile& tile) const override { measure_kept(tile, dim()); }

    void multiply(Tile& tile, int row, int rows, int64_t, float* block) const override {
        if (exact_) {
            for (int at = 0; at < rows; ++at)
                for (int query = 0; query < queries.count; ++query) block[at * PANEL + query] = score(query, tile, row + at);
            return;
        }
        const int16_t* const from = tile.high + row * whole_stride(dim());
        each_batch<4>((int)queries.count, [&](int first, auto some) { multiply_some<some.value>(from, rows, first, block + first); });
    }

    double error(int64_t query, const Tile& tile) const override { return exact_ ? 0 : asked_.bound(query)(tile); }
    bool exact() const override { return exact_; }
    bool reads_kept() const override { return true; }
    bool scores(int64_t, const Tile&) const override { return true; }

    float score(int64_t query, const Tile& tile, int row) const override {
        return whole_product(tile.high + row * whole_stride(dim()), tile.plane, asked_[query], asked_.plane(), dim());
    }

   private:
    template <int QUERIES>
    void multiply_some(const int16_t* rows, int count, int first, float* block) const {
        constexpr int at_once = 4 / QUERIES;  // sums that stay in registers
        int row = 0;
        for (; row + at_once <= count; row += at_once)
            multiply_high<at_once, QUERIES>(rows + row * whole_stride(dim()), asked_[first], dim(), block + row * PANEL);
        for (; row < count; ++row)
            multiply_high<1, QUERIES>(rows + row * whole_stride(dim()), asked_[first], dim(), block + row * PANEL);
    }

    const WholeQueries asked_;
    const bool exact_;
};

#if PRODUCT_INT16

template <class T>
class Whole : public Cheap<T> {
   public:
    Whole(const Queries& queries, Team& team) : Cheap<T>(queries, team), asked_(queries, team) {}

    size_t row_bytes() const override { return 2 * whole_stride(this->dim()) * sizeof(Element); }

    void make_ready(Tile& tile) const override {
        if (tile.high) return measure_kept(tile, this->dim());
        this->measure(tile, [&](const T* from, const T* later, int row) {
            Element* const to = this->rows_of(tile) + row * 2 * whole_stride(this->dim());
            return convert_whole_row(from, later, this->dim(), to, to + whole_stride(this->dim()));
        });
    }

    void multiply(Tile& tile, int row, int, int64_t panel, float* block) const override {
        this->multiply_panel(high(tile, row), pitch(tile), panel, block);
    }

    bool reads_kept() const override { return true; }
    bool scores(int64_t query, const Tile& tile) const override { return std::isfinite(this->error(query, tile)); }

    float score(int64_t query, const Tile& tile, int row) const override {
        const size_t plane = tile.high ? tile.plane : whole_stride(this->dim());
        return whole_product(high(tile, row), plane, asked_[query], asked_.plane(), this->dim());
    }

   private:
    size_t pitch(const Tile& tile) const { return (tile.high ? 1 : 2) * whole_stride(this->dim()); }

    const Element* high(const Tile& tile, int row) const {
        return (tile.high ? tile.high : this->rows_of(tile)) + row * pitch(tile);
    }

    const WholeQueries asked_;
};

#endif

}  // namespace asif
