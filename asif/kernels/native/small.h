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
          tile_rows_((int)tile_rows(anchors.count())), tiles_((rows_ + tile_rows_ - 1) / tile_rows_) {}

    // Write the top k; returns how many queries met something that is not finite.
    int64_t run(int64_t* indices, float* scores) {
        if (queries_.panels() < team_.size()) share_anchors(indices, scores);
        else share_panels(indices, scores);
        return finite_ ? 0 : queries_.count;
    }

   private:
    static constexpr int MOST_TURNS = 24;
    static constexpr int64_t PRODUCT_BYTES = 256 << 10;  // of a group: what else a core's cache holds are rows

    // What a thread works with, for the panels of a group.
    struct Worker {
        Buffer<double> wide;    // [panels * PANEL, stride]: queries
        Buffer<Scored> listed;  // [panels * PANEL, rows]
        std::vector<float> limits;
        std::vector<int64_t> counts;
        Sorter sorter;
    };

    Worker new_worker(int64_t panels) const {
        const int64_t queries = panels * PANEL;
        return {buffer<double>(queries * queries_.stride), buffer<Scored>(queries * rows_), std::vector<float>(queries),
                std::vector<int64_t>(queries), {}};
    }

    // Room for the products of panels: [panels, rows and some more that the last block writes in vain, PANEL].
    Buffer<float> new_products(int64_t panels) const {
        Buffer<float> products = buffer<float>(panels * room());
        if (queries_.count < PANEL) std::fill_n(&products[0], panels * room(), 0.0f);  // of queries that do not exist
        return products;
    }

    int64_t room() const { return ((int64_t)rows_ + MOST_BLOCK_ROWS) * PANEL; }
    int asked(int64_t panel) const { return (int)std::min<int64_t>(PANEL, queries_.count - panel * PANEL); }

    // Few queries: threads multiply different anchors, then score for different queries.
    void share_anchors(int64_t* indices, float* scores) {
        std::vector<Worker> workers;
        for (int thread = 0; thread < team_.size(); ++thread) workers.push_back(new_worker(1));
        const Buffer<float> products = new_products(1);
        for (int64_t panel = 0; panel < queries_.panels(); ++panel) {
            team_.each((int64_t)tiles_.size(), [&](int, int64_t tile) {
                Processor processor;
                if (panel == 0) make_ready(tile);
                multiply(tile, panel, panel + 1, &products[0]);
            });
            const int parts = std::min(team_.size(), asked(panel)), size = (asked(panel) + parts - 1) / parts;
            team_.each(parts, [&](int thread, int64_t part) {
                const int first = (int)part * size;
                answer(panel, first, std::min(first + size, asked(panel)), &products[0], workers[thread], indices, scores);
            });
        }
    }

    // Many queries: threads work for different groups of panels, which read the rows together.
    void share_panels(int64_t* indices, float* scores) {
        team_.each((int64_t)tiles_.size(), [&](int, int64_t tile) { make_ready(tile); });
        const int64_t fitting = std::max<int64_t>(1, PRODUCT_BYTES / (room() * (int64_t)sizeof(float)));
        const int64_t size = std::clamp<int64_t>(queries_.panels() / team_.size(), 1, std::min<int64_t>(fitting, GROUP));
        std::vector<Worker> workers;
        std::vector<Buffer<float>> products;
        for (int thread = 0; thread < team_.size(); ++thread)
            workers.push_back(new_worker(size)), products.push_back(new_products(size));
        team_.each((queries_.panels() + size - 1) / size, [&](int thread, int64_t group) {
            Processor processor;
            float* const mine = &products[thread][0];
            const int64_t first = group * size, last = std::min(first + size, queries_.panels());
            for (size_t tile = 0; tile < tiles_.size(); ++tile) multiply(tile, first, last, mine);
            const int queries = (int)std::min((last - first) * PANEL, queries_.count - first * PANEL);
            answer(first, 0, queries, mine, workers[thread], indices, scores);
        });
    }

    void make_ready(int64_t at) {
        Tile& tile = tiles_[at];
        const int first = (int)at * tile_rows_, last = std::min(first + tile_rows_, rows_);
        tile.first = first;
        tile.rows = buffer<const void*>(tile_rows_);
        if (anchors_.quantised) tile.quantised = buffer<const char*>(tile_rows_);
        tile.converted = buffer<char>(tile_rows_ * product_->row_bytes());
        Finder find(anchors_);
        for (int row = first; row < last; ++row) put(find, row, tile);
        product_->make_ready(tile);
    }

    // Multiply a tile by some panels; the rows of all tiles follow each other.
    void multiply(int64_t at, int64_t first, int64_t last, float* products) {
        Tile& tile = tiles_[at];
        for (int row = 0; row < tile.count; row += product_->block_rows) {
            const int rows = std::min(product_->block_rows, tile.count - row);
            for (int64_t panel = first; panel < last; ++panel)
                product_->multiply(tile, row, rows, panel, products + (panel - first) * room() + (tile.first + row) * PANEL);
        }
        if (!tile.finite) finite_ = false;
    }

    // Write the top k of queries begin to end of those from `panel` on, whose products are known.
    void answer(int64_t panel, int begin, int end, const float* products, Worker& worker, int64_t* indices, float* scores) {
        const int64_t first = panel * PANEL;
        const int panels = (end + PANEL - 1) / PANEL;
        std::fill(worker.limits.begin(), worker.limits.end(), NEVER);
        for (int of = 0; of < panels; ++of) {
            float thresholds[PANEL];
            find_thresholds(products + of * room(), asked(panel + of), thresholds);
            for (int at = std::max(begin, of * PANEL); at < std::min(end, (of + 1) * PANEL); ++at) {
                worker.limits[at] = limit(first + at, thresholds[at % PANEL]);
                worker.counts[at] = 0;
                std::copy_n(queries_[first + at], queries_.stride, &worker.wide[at * queries_.stride]);
            }
        }
        for (const Tile& tile : tiles_)
            for (int row = 0; row < tile.count; row += MOST_BLOCK_ROWS)
                for (int of = 0; of < panels; ++of) {
                    const float* const block = products + of * room() + (tile.first + row) * PANEL;
                    const int rows = std::min(MOST_BLOCK_ROWS, tile.count - row);
                    each_passing(block, rows, &worker.limits[of * PANEL], [&](int passed, int lane) {
                        const int at = of * PANEL + lane;
                        const float score = product_->exact() ? block[passed * PANEL + lane]
                                                              : score_of(first + at, tile, row + passed, &worker.wide[at * queries_.stride]);
                        worker.listed[at * rows_ + worker.counts[at]] = {score, (uint32_t)(tile.first + row + passed)};
                        worker.counts[at] += score == score;  // if it is a number
                    });
                }
        for (int at = begin; at < end; ++at) {
            worker.sorter.clear();
            worker.sorter.add(&worker.listed[at * rows_], worker.counts[at]);
            if (!worker.sorter.best(k_, indices + (first + at) * k_, scores + (first + at) * k_)) finite_ = false;
        }
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

    // Find, for every query of a panel, a number that at least k products reach, and few more, by halving.
    void find_thresholds(const float* products, int asked, float* thresholds) const {
        if (asked > LANES) find_thresholds<2>(products, asked, thresholds);
        else find_thresholds<1>(products, asked, thresholds);
    }

    template <int PARTS>
    void find_thresholds(const float* products, int asked, float* thresholds) const {
        const uint32_t most = (uint32_t)(k_ + k_ / 8 + 2);
        Floats low[PARTS], high[PARTS];
        Words reached[PARTS];  // products that are at least `low`
        for (int part = 0; part < PARTS; ++part) {
            low[part] = high[part] = load(products + part * LANES);
            for (int lane = 0; lane < LANES; ++lane) reached[part][lane] = part * LANES + lane < asked ? rows_ : 0;
        }
        for (int row = 1; row < rows_; ++row)
            for (int part = 0; part < PARTS; ++part) {
                const Floats value = load(products + row * PANEL + part * LANES);
                low[part] = smaller(low[part], value), high[part] = larger(high[part], value);
            }
        for (int turn = 0; turn < MOST_TURNS; ++turn) {
            uint32_t largest = 0;
            for (int part = 0; part < PARTS; ++part)
                for (int lane = 0; lane < LANES; ++lane) largest = std::max<uint32_t>(largest, reached[part][lane]);
            if (largest <= most) break;
            Floats middle[PARTS];
            Words count[PARTS] = {};
            for (int part = 0; part < PARTS; ++part) middle[part] = low[part] + (high[part] - low[part]) * 0.5f;
            for (int row = 0; row < rows_; ++row)
                for (int part = 0; part < PARTS; ++part)
                    count[part] -= (Words)(load(products + row * PANEL + part * LANES) >= middle[part]);
            for (int part = 0; part < PARTS; ++part) {
                const auto enough = count[part] >= (uint32_t)k_;
                const auto wanted = enough & (Words)(reached[part] > 0);
                low[part] = enough ? middle[part] : low[part];
                high[part] = enough ? high[part] : middle[part];
                reached[part] = wanted ? count[part] : reached[part];
            }
        }
        for (int part = 0; part < PARTS; ++part) write(thresholds + part * LANES, low[part]);
    }

    const int rows_, tile_rows_;
    std::vector<Tile> tiles_;
};

}  // namespace asif
