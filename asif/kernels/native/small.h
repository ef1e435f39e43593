// Exact top-k among few anchors: all products are computed, and the k-th best of a query proves its floor.
//
// Nothing is guessed. At least k anchors have a product of at least t, so at least k scores reach t - excess, and only
// anchors whose product reaches t - excess - error can belong to the top k: hardly more than k are scored.
#pragma once

#include <algorithm>
#include <vector>

#include "proposals.h"
#include "select.h"

namespace asif {

class SmallSearch : Proposals {
   public:
    SmallSearch(const Anchors& anchors, Type type, const float* queries, int64_t count, int64_t k, Team& team)
        : Proposals(anchors, type, queries, count, k, team), rows_((int)anchors.count()),
          column_((rows_ + LANES - 1) / LANES * LANES), tile_rows_((int)tile_rows(anchors.count())),
          tiles_((rows_ + tile_rows_ - 1) / tile_rows_) {}

    // Write the top k; returns how many queries met something that is not finite.
    int64_t run(int64_t* indices, float* scores) {
        if (queries_.panels() < team_.size()) share_anchors(indices, scores);
        else share_panels(indices, scores);
        return finite_ ? 0 : queries_.count;
    }

   private:
    static constexpr int MOST_TURNS = 24;
    static constexpr int64_t PRODUCT_BYTES = 256 << 10;  // of a group: what else a core's cache holds are rows

    // What a thread works with.
    struct Worker {
        Buffer<float> block;
        Buffer<double> wide;    // a query
        Buffer<Scored> listed;  // [rows]
        Sorter sorter;
    };

    Worker new_worker() const {
        Worker worker{buffer<float>(MOST_BLOCK_ROWS * PANEL), buffer<double>(queries_.stride), buffer<Scored>(rows_), {}};
        std::fill_n(&worker.block[0], MOST_BLOCK_ROWS * PANEL, 0.0f);  // products may leave out queries that do not exist
        return worker;
    }

    // The products of so many queries, [queries, column], NaN after the rows.
    Buffer<float> new_columns(int64_t queries) const {
        Buffer<float> columns = buffer<float>(queries * column_);
        for (int64_t at = 0; at < queries; ++at) std::fill(&columns[at * column_] + rows_, &columns[at * column_] + column_, NEVER);
        return columns;
    }

    int asked(int64_t panel) const { return (int)std::min<int64_t>(PANEL, queries_.count - panel * PANEL); }

    // Few queries: threads multiply different anchors, then score for different queries.
    void share_anchors(int64_t* indices, float* scores) {
        std::vector<Worker> workers;
        for (int thread = 0; thread < team_.size(); ++thread) workers.push_back(new_worker());
        const Buffer<float> columns = new_columns(queries_.count);
        team_.each((int64_t)tiles_.size(), [&](int thread, int64_t tile) {
            Processor processor;
            make_ready(tile);
            multiply(tile, 0, queries_.panels(), workers[thread], &columns[0]);
        });
        team_.each(queries_.count, [&](int thread, int64_t query) {
            answer(query, &columns[query * column_], workers[thread], indices, scores);
        });
    }

    // Many queries: threads work for different groups of panels, which read the rows together.
    void share_panels(int64_t* indices, float* scores) {
        team_.each((int64_t)tiles_.size(), [&](int, int64_t tile) { make_ready(tile); });
        const int64_t fitting = std::max<int64_t>(1, PRODUCT_BYTES / (column_ * PANEL * (int64_t)sizeof(float)));
        const int64_t size = std::clamp<int64_t>(queries_.panels() / team_.size(), 1, std::min<int64_t>(fitting, GROUP));
        std::vector<Worker> workers;
        std::vector<Buffer<float>> columns;
        for (int thread = 0; thread < team_.size(); ++thread)
            workers.push_back(new_worker()), columns.push_back(new_columns(size * PANEL));
        team_.each((queries_.panels() + size - 1) / size, [&](int thread, int64_t group) {
            Processor processor;
            float* const mine = &columns[thread][0];
            const int64_t first = group * size, last = std::min(first + size, queries_.panels());
            for (size_t tile = 0; tile < tiles_.size(); ++tile) multiply(tile, first, last, workers[thread], mine);
            for (int64_t query = first * PANEL; query < std::min(last * PANEL, queries_.count); ++query)
                answer(query, mine + (query - first * PANEL) * column_, workers[thread], indices, scores);
        });
    }

    void make_ready(int64_t at) {
        Tile& tile = tiles_[at];
        const int first = (int)at * tile_rows_, last = std::min(first + tile_rows_, rows_);
        tile.first = first;
        if (anchors_.whole && product_->reads_kept()) {
            tile.count = last - first;
            tile.high = anchors_.whole + first * whole_stride(anchors_.dim), tile.plane = whole_plane(rows_, anchors_.dim);
        } else {
            tile.rows = buffer<const void*>(tile_rows_);
            if (anchors_.quantised) tile.quantised = buffer<const char*>(tile_rows_);
            tile.converted = buffer<char>(tile_rows_ * product_->row_bytes());
            Finder find(anchors_);
            for (int row = first; row < last; ++row) put(find, row, tile);
        }
        product_->make_ready(tile);
    }

    // Multiply a tile by some panels, into the columns of their queries.
    void multiply(int64_t at, int64_t first, int64_t last, Worker& worker, float* columns) {
        Tile& tile = tiles_[at];
        for (int row = 0; row < tile.count; row += product_->block_rows) {
            const int rows = std::min(product_->block_rows, tile.count - row);
            for (int64_t panel = first; panel < last; ++panel) {
                product_->multiply(tile, row, rows, panel, &worker.block[0]);
                float* const to = columns + (panel - first) * PANEL * column_ + tile.first + row;
                for (int query = 0; query < asked(panel); ++query)
                    for (int of = 0; of < rows; ++of) to[query * column_ + of] = worker.block[of * PANEL + query];
            }
        }
        if (!tile.finite) finite_ = false;
    }

    // Write the top k of a query, whose products are known.
    void answer(int64_t query, const float* column, Worker& worker, int64_t* indices, float* scores) {
        const float least = limit(query, find_threshold(column));
        const bool exact = product_->exact();
        if (!exact) std::copy_n(queries_[query], queries_.stride, &worker.wide[0]);
        size_t count = 0;
        const Tile* tile = &tiles_[0];
        for (int first = 0; first < rows_; first += LANES)
            for (unsigned left = at_least(load(column + first), broadcast(least)); left; left &= left - 1) {
                const int row = first + __builtin_ctz(left);
                while (row >= tile->first + tile->count) ++tile;
                const float score = exact ? column[row] : score_of(query, *tile, row - (int)tile->first, &worker.wide[0]);
                worker.listed[count] = {score, (uint32_t)row};
                count += score == score;  // if it is a number
            }
        worker.sorter.clear();
        worker.sorter.add(&worker.listed[0], count);
        if (!worker.sorter.best(k_, indices + query * k_, scores + query * k_)) finite_ = false;
    }

    // What a product must reach if at least k reach the threshold.
    float limit(int64_t query, float threshold) const {
        double error = 0, excess = 0;
        for (const Tile& tile : tiles_) {
            error = std::max(error, product_->error(query, tile));
            excess = std::max(excess, product_->excess(query, tile));
        }
        return down(down(threshold - excess) - error);
    }

    float score_of(int64_t query, const Tile& tile, int row, const double* wide) const {
        if (product_->scores(query, tile)) return product_->score(query, tile, row);
        return canonical(type_, wide, tile.rows[row], anchors_.dim);
    }

    // Find a number that at least k products of a query reach, and few more, by halving.
    float find_threshold(const float* column) const {
        const uint32_t most = (uint32_t)(k_ + k_ / 32 + 1);
        Floats least = broadcast(column[0]), largest = least;
        for (int row = 0; row < column_; row += LANES) {
            const Floats value = load(column + row);
            least = smaller(least, value), largest = larger(value, largest);  // what is not a number is passed over
        }
        float low = -largest_lane(-least), high = largest_lane(largest);
        uint32_t reached = rows_;
        for (int turn = 0; turn < MOST_TURNS && reached > most; ++turn) {
            const float middle = low + (high - low) * 0.5f;
            Words counts{};
            for (int row = 0; row < column_; row += LANES) counts -= (Words)(load(column + row) >= broadcast(middle));
            uint32_t count = 0;
            for (int lane = 0; lane < LANES; ++lane) count += counts[lane];
            if (count >= (uint32_t)k_) low = middle, reached = count;
            else high = middle;
        }
        return low;
    }

    const int rows_, column_, tile_rows_;
    std::vector<Tile> tiles_;
};

}  // namespace asif
