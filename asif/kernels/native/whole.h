// Rows as two int16 numbers an entry, which together are the entry on the canonical grid: the high ones propose, and both
// together give canonical scores in integers, faster than in float64. For rows that several queries score.
#pragma once

#include "products.h"

#if PRODUCT_INT16

namespace asif {

constexpr int LOW_BITS = 12;      // 26 bits of the grid, less the 14 of the high part
constexpr int TOGETHER = 1024;    // products of entries that can be added in int32, lane by lane

// Convert a row to its high and low parts.
template <class T>
inline Lengths convert_whole_row(const T* row, const T* later, int dim, Element* high, Element* low) {
    Lengths lengths;
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

// The canonical inner product of two rows, the low parts `apart` entries after the high ones; the query's are zero up to a
// multiple of 2 * LANES.
inline float whole_product(const Element* row, const Element* query, size_t apart, int dim) {
    Longs whole{};
    for (int first = 0; first < dim; first += TOGETHER) {
        Ints upper{}, mixed{}, lower{};
        for (int at = first; at < std::min(first + TOGETHER, dim); at += 2 * LANES) {
            const Pairs high = read<Pairs>(row + at), low = read<Pairs>(row + apart + at);
            const Pairs by_high = read<Pairs>(query + at), by_low = read<Pairs>(query + apart + at);
            upper = add_pairs(upper, high, by_high);
            mixed = add_pairs(add_pairs(mixed, high, by_low), low, by_high);
            lower = add_pairs(lower, low, by_low);
        }
        whole += (widened_sums(upper) << 2 * LOW_BITS) + (widened_sums(mixed) << LOW_BITS) + widened_sums(lower);
    }
    return (float)sum(whole) * 0x1p-52f;
}

template <class T>
class Whole : public Cheap<T> {
   public:
    Whole(const Queries& queries, Team& team)
        : Cheap<T>(queries, team), both_(2 * this->stride_), queries_(buffer<Element>(queries.count * both_)) {
        team.each(queries.count, [&](int, int64_t at) {
            Element* const to = &queries_[at * both_];
            std::fill(to, to + both_, Element{});
            convert_whole_row(queries[at], queries[at], this->dim(), to, to + this->stride_);
        });
    }

    size_t row_bytes() const override { return both_ * sizeof(Element); }

    void make_ready(Tile& tile) const override {
        this->measure(tile, [&](const T* from, const T* later, int row) {
            Element* const to = this->rows_of(tile) + row * both_;
            return convert_whole_row(from, later, this->dim(), to, to + this->stride_);
        });
    }

    void multiply(Tile& tile, int row, int, int64_t panel, float* block) const override {
        asif::multiply(this->rows_of(tile) + row * both_, both_, this->panel(panel), this->depth_, block);
    }

    bool scores(int64_t query, const Tile& tile) const override { return std::isfinite(this->error(query, tile)); }

    float score(int64_t query, const Tile& tile, int row) const override {
        return whole_product(this->rows_of(tile) + row * both_, &queries_[query * both_], this->stride_, this->dim());
    }

   private:
    const size_t both_;  // entries of a row, both parts
    Buffer<Element> queries_;
};

}  // namespace asif

#endif
