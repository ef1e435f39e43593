// Ways of multiplying anchors by queries, and how far each can be from the canonical score.
//
//   Cheap   converted rows times panels, in the CPU's cheapest precision: many queries
//   Stored  rows as they are stored, float32: few queries, at the speed of memory
//   Quantised  rows in int8, where they are kept: few queries, at a quarter of the bytes
//   KeptFew, Whole  rows as pairs of int16 (whole.h)
//   Exact   float64 on the grid: so few anchors that most of them must be scored anyway
//   Canonical  the same for a few queries, rows as they are stored
#pragma once

#include <algorithm>
#include <limits>
#include <memory>

#include "anchors.h"
#include "memory.h"
#include "multiply.h"
#include "parallel.h"
#include "quantised.h"

namespace asif {

constexpr int MOST_BLOCK_ROWS = 32;
constexpr double ROUND = 0x1p-24;  // half a unit in the last place of a float32 between 1 and 2

// Anchors made ready for a product: the first of them, where they lie, and what the product needs besides.
struct Tile {
    int64_t first = 0;
    int count = 0;
    Buffer<const void*> rows;
    Buffer<const char*> quantised;  // the same rows in int8, where they are kept
    bool sample = false;            // whether products are wanted that are off on either side
    const int16_t* high = nullptr;  // the same rows as pairs of int16, where they are kept: the first row's high parts
    size_t plane = 0;               // entries from them to the low parts
    Buffer<char> converted;
    double length = 0, residual = 0;  // of the longest row; of the largest difference that conversion made
    bool finite = true;               // every row met so far
};

// Queries on the canonical grid, [count, stride] float32, zeros after each.
struct Queries {
    int64_t count;
    int dim;
    size_t stride;
    Buffer<float> values;

    Queries(const float* from, int64_t count_, int dim_, Team& team)
        : count(count_), dim(dim_), stride((dim_ + LANES - 1) / LANES * LANES), values(buffer<float>(count_ * stride)) {
        team.each((count + PANEL - 1) / PANEL, [&](int, int64_t panel) {
            for (int64_t at = panel * PANEL; at < std::min((panel + 1) * PANEL, count); ++at) {
                float* const to = &values[at * stride];
                for (int entry = 0; entry < dim; ++entry) to[entry] = (float)on_grid((double)from[at * dim + entry]);
                std::fill(to + dim, to + stride, 0.0f);
            }
        });
    }

    const float* operator[](int64_t at) const { return &values[at * stride]; }
    int64_t panels() const { return (count + PANEL - 1) / PANEL; }
};

inline double root(double square) { return std::sqrt(square) * (1 + 1e-4); }  // of a float32 sum, rounded up

class Product {
   public:
    Product(const Queries& queries, int block_rows) : queries(queries), block_rows(block_rows) {}
    virtual ~Product() = default;

    // Bytes a converted row takes.
    virtual size_t row_bytes() const = 0;
    // Convert the rows that the tile points to, and measure them.
    virtual void make_ready(Tile& tile) const = 0;
    // Multiply up to `block_rows` rows of a tile, from `row` on, by a panel.
    virtual void multiply(Tile& tile, int row, int rows, int64_t panel, float* block) const = 0;
    // Bound by how much the canonical score can be above the product, for the rows of a tile.
    virtual double error(int64_t query, const Tile& tile) const = 0;
    // Bound by how much it can be below.
    virtual double excess(int64_t query, const Tile& tile) const { return error(query, tile); }
    // Tell whether products are canonical scores.
    virtual bool exact() const { return false; }
    // Tell whether rows that are kept as pairs of int16 are used: `high` instead of `rows`.
    virtual bool reads_kept() const { return false; }
    // Tell whether `score` can be used for rows of a tile.
    virtual bool scores(int64_t, const Tile&) const { return false; }
    // Return the canonical score of a row of a tile.
    virtual float score(int64_t, const Tile&, int) const { return 0; }

    const Queries& queries;
    const int block_rows;

   protected:
    int dim() const { return queries.dim; }
    bool is_half(int64_t panel) const { return queries.count - panel * PANEL <= LANES; }  // the second half holds no query

    // Note whether the products of a few queries, and thereby the rows, are all finite.
    void check_finite(const float* block, int rows, Tile& tile) const {
        Floats nothing{};
        for (int at = 0; at < rows; ++at)
            for (int query = 0; query < queries.count; query += LANES) nothing += load(block + at * PANEL + query) * 0.0f;
        tile.finite &= sum(nothing) == 0;
    }
};

// |canonical score - product| <= of_length * A + of_residual * R + constant, for anchors at most A long whose converted
// rows are at most R off (docs/kernels.md).
struct Bound {
    double of_length, of_residual, constant;

    Bound() = default;
    Bound(double length, double residual, int dim) {
        const double summed = 1.01 * (dim + 40) * ROUND;  // relative error of a float32 sum of products, in any order
        const double kept = length + residual;
        const double grid = std::sqrt((double)dim) * 0x1p-27;
        of_length = residual + summed * kept, of_residual = kept * (1 + summed), constant = kept * grid + 2 * ROUND;
    }

    double operator()(const Tile& tile) const { return of_length * tile.length + of_residual * tile.residual + constant; }
};

template <class T>
class Cheap : public Product {
   public:
    Cheap(const Queries& queries, Team& team)
        : Product(queries, BLOCK_ROWS), stride_(stride_of(dim())), depth_(depth_of(dim())),
          panels_(buffer<Element>(queries.panels() * PANEL * depth_)), bounds_(buffer<Bound>(queries.count)) {
        team.each(queries.panels(), [&](int, int64_t panel) {
            Buffer<Element> converted = buffer<Element>(PANEL * stride_);
            std::fill(&converted[0], &converted[PANEL * stride_], Element{});
            for (int64_t at = panel * PANEL; at < std::min((panel + 1) * PANEL, queries.count); ++at) {
                const float* query = queries[at];
                const Lengths lengths = convert_row(query, query, dim(), &converted[(at - panel * PANEL) * stride_]);
                bounds_[at] = Bound(root(sum(lengths.row)), root(sum(lengths.residual)), dim());
            }
            pack_panel(converted.get(), stride_, depth_, &panels_[panel * PANEL * depth_]);
        });
    }

    size_t row_bytes() const override { return stride_ * sizeof(Element); }

    void make_ready(Tile& tile) const override {
        measure(tile, [&](const T* from, const T* later, int row) {
            return convert_row(from, later, dim(), rows_of(tile) + row * stride_);
        });
    }

    void multiply(Tile& tile, int row, int, int64_t panel, float* block) const override {
        multiply_panel(rows_of(tile) + row * stride_, stride_, panel, block);
    }

    double error(int64_t query, const Tile& tile) const override {
        const double error = bounds_[query](tile);
        return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();  // not 0 * infinity
    }

   protected:
    // Do lengths = convert(row, one to be fetched meanwhile, its place) for every row.
    template <class Convert>
    void measure(Tile& tile, Convert convert) const {
        float longest = 0, largest = 0, squares = 0;
        const int ahead = std::max(1, AHEAD_BYTES / (dim() * (int)sizeof(T)));
        for (int row = 0; row < tile.count; ++row) {
            const T* later = static_cast<const T*>(tile.rows[std::min(row + ahead, tile.count - 1)]);
            const Lengths lengths = convert(static_cast<const T*>(tile.rows[row]), later, row);
            const float square = sum(lengths.row);
            longest = std::max(longest, square), largest = std::max(largest, sum(lengths.residual)), squares += square;
        }
        tile.length = root(longest), tile.residual = root(largest), tile.finite = std::isfinite(squares);
    }

    void multiply_panel(const Element* rows, size_t stride, int64_t panel, float* block) const {
        const auto kernel = is_half(panel) ? asif::multiply<1> : asif::multiply<2>;
        kernel(rows, stride, &panels_[panel * PANEL * depth_], depth_, block);
    }

    static Element* rows_of(const Tile& tile) { return reinterpret_cast<Element*>(tile.converted.get()); }

   private:
    const size_t stride_;
    const int depth_;
    Buffer<Element> panels_;
    Buffer<Bound> bounds_;
};

template <class T>
class Stored : public Product {
   public:
    explicit Stored(const Queries& queries) : Product(queries, MOST_BLOCK_ROWS), bounds_(buffer<Bound>(queries.count)) {
        for (int64_t at = 0; at < queries.count; ++at) {
            Floats square{};
            for (size_t entry = 0; entry < queries.stride; entry += LANES)
                square += load(queries[at] + entry) * load(queries[at] + entry);
            bounds_[at] = Bound(root(sum(square)), 0, dim());
        }
    }

    size_t row_bytes() const override { return dim() * sizeof(T); }

    // Nothing is converted; rows are at most sqrt(2) long by contract.
    void make_ready(Tile& tile) const override { tile.length = 1.4143, tile.residual = 0, tile.finite = true; }

    void multiply(Tile& tile, int row, int rows, int64_t, float* block) const override {
        const T* const* from = reinterpret_cast<const T* const*>(&tile.rows[row]);
        each_batch<FEW>((int)queries.count, [&](int first, auto some) {
            multiply_rows<some.value>(from, rows, tile.count - row - rows, queries[first], queries.stride, dim(), block + first);
        });
        check_finite(block, rows, tile);
    }

    double error(int64_t query, const Tile& tile) const override { return bounds_[query](tile); }

   private:
    Buffer<Bound> bounds_;
};

// A product is the most that the score can be.
class Quantised : public Product {
   public:
    explicit Quantised(const Queries& queries)
        : Product(queries, MOST_BLOCK_ROWS), stride_(steps_of(dim())), entries_(buffer<int16_t>(queries.count * stride_)) {
        for (int64_t at = 0; at < queries.count; ++at) asked_[at] = quantise_query(queries[at], dim(), &entries_[at * stride_]);
    }

    size_t row_bytes() const override { return quantised_bytes(dim()); }
    void make_ready(Tile& tile) const override { tile.finite = true; }

    void multiply(Tile& tile, int row, int rows, int64_t, float* block) const override {
        each_batch<4>((int)queries.count, [&](int first, auto some) {
            bound_products<some.value>(&tile.quantised[row], rows, &entries_[first * stride_], asked_ + first, stride_, dim(),
                                       tile.sample, block + first);
        });
        check_finite(block, rows, tile);
    }

    double error(int64_t, const Tile&) const override { return 2 * ROUND; }
    double excess(int64_t, const Tile&) const override { return std::numeric_limits<double>::infinity(); }

   private:
    const size_t stride_;
    Buffer<int16_t> entries_;
    Asked asked_[FEW];
};

template <class T>
class Exact : public Product {
   public:
    Exact(const Queries& queries, Team& team)
        : Product(queries, EXACT_ROWS), panels_(buffer<double>(queries.panels() * PANEL * dim())) {
        team.each(queries.panels(), [&](int, int64_t panel) {
            double* to = &panels_[panel * PANEL * dim()];
            for (int entry = 0; entry < dim(); ++entry)
                for (int64_t at = panel * PANEL; at < (panel + 1) * PANEL; ++at)
                    *to++ = at < queries.count ? queries[at][entry] : 0;
        });
    }

    size_t row_bytes() const override { return queries.stride * sizeof(double); }

    void make_ready(Tile& tile) const override {
        Doubles nothing{};
        const auto put = [&](const T* from, double* to) {
            const Doubles entries = entries_on_grid(from);
            nothing += entries * 0.0;  // 0, or NaN
            write(to, entries);
        };
        for (int row = 0; row < tile.count; ++row) {
            const T* from = static_cast<const T*>(tile.rows[row]);
            double* to = rows_of(tile) + row * queries.stride;
            int at = 0;
            for (; at + LANES / 2 <= dim(); at += LANES / 2) put(from + at, to + at);
            T padded[LANES / 2] = {};
            std::memcpy(static_cast<void*>(padded), from + at, (dim() - at) * sizeof(T));
            if (at < dim()) put(padded, to + at);
        }
        tile.finite = sum(nothing) == 0;
    }

    void multiply(Tile& tile, int row, int, int64_t panel, float* block) const override {
        const auto kernel = is_half(panel) ? multiply_exactly<1> : multiply_exactly<2>;
        kernel(rows_of(tile) + row * queries.stride, queries.stride, &panels_[panel * PANEL * dim()], dim(), block);
    }

    double error(int64_t, const Tile&) const override { return 0; }
    bool exact() const override { return true; }

   private:
    static double* rows_of(const Tile& tile) { return reinterpret_cast<double*>(tile.converted.get()); }

    Buffer<double> panels_;
};

template <class T>
class Canonical : public Product {
   public:
    explicit Canonical(const Queries& queries)
        : Product(queries, MOST_BLOCK_ROWS), wide_(buffer<double>(queries.count * queries.stride)) {
        std::copy_n(queries[0], queries.count * queries.stride, &wide_[0]);
    }

    size_t row_bytes() const override { return dim() * sizeof(T); }
    void make_ready(Tile& tile) const override { tile.finite = true; }

    void multiply(Tile& tile, int row, int rows, int64_t, float* block) const override {
        for (int at = 0; at < rows; ++at)
            each_batch<FEW>((int)queries.count, [&](int first, auto some) {
                double products[some.value];
                exact_products<some.value>(&wide_[first * queries.stride], queries.stride,
                                           static_cast<const T*>(tile.rows[row + at]), dim(), products);
                std::copy_n(products, some.value, block + at * PANEL + first);
            });
        check_finite(block, rows, tile);
    }

    double error(int64_t, const Tile&) const override { return 0; }
    bool exact() const override { return true; }

   private:
    Buffer<double> wide_;
};

}  // namespace asif
