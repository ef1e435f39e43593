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
    const auto put = [](Element* to, __m256i words) {
        _mm_storeu_si128((__m128i*)to, _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    };
    each_vector(row, dim, [&](int at, Floats value) {
        __builtin_prefetch(later + at);
        const __m256i whole = _mm256_cvtps_epi32((__m256)(value * 0x1p26f));
        const __m256i upper = _mm256_srai_epi32(_mm256_add_epi32(whole, _mm256_set1_epi32(1 << (LOW_BITS - 1))), LOW_BITS);
        put(high + at, upper);
        put(low + at, _mm256_sub_epi32(whole, _mm256_slli_epi32(upper, LOW_BITS)));
        lengths.row += value * value;
    });
    const bool fits = sum(lengths.row) < LONGEST * LONGEST;
    lengths.residual = broadcast(fits ? (float)dim / LANES * HALF_STEP * HALF_STEP : INFINITY);
    return lengths;
}

inline __m256i widened_sum(__m256i words) {
    return _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(words)),
                            _mm256_cvtepi32_epi64(_mm256_extracti128_si256(words, 1)));
}

// The canonical inner product of two rows, the low parts `apart` entries after the high ones; the query's are zero up to a
// multiple of 16.
inline float whole_product(const Element* row, const Element* query, size_t apart, int dim) {
    __m256i whole = _mm256_setzero_si256();
    for (int first = 0; first < dim; first += TOGETHER) {
        __m256i upper = _mm256_setzero_si256(), mixed = upper, lower = upper;
        for (int at = first; at < std::min(first + TOGETHER, dim); at += 16) {
            const __m256i high = read<__m256i>(row + at), low = read<__m256i>(row + apart + at);
            const __m256i by_high = read<__m256i>(query + at), by_low = read<__m256i>(query + apart + at);
            upper = _mm256_add_epi32(upper, _mm256_madd_epi16(high, by_high));
            mixed = _mm256_add_epi32(mixed, _mm256_madd_epi16(high, by_low));
            mixed = _mm256_add_epi32(mixed, _mm256_madd_epi16(low, by_high));
            lower = _mm256_add_epi32(lower, _mm256_madd_epi16(low, by_low));
        }
        whole = _mm256_add_epi64(whole, _mm256_slli_epi64(widened_sum(upper), 2 * LOW_BITS));
        whole = _mm256_add_epi64(whole, _mm256_slli_epi64(widened_sum(mixed), LOW_BITS));
        whole = _mm256_add_epi64(whole, widened_sum(lower));
    }
    int64_t lanes[4];
    write(lanes, whole);
    return (float)((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) * 0x1p-52f;
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
