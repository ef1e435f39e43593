// Exact top-k similarity: a cheap product proposes anchors above a proved bound, the canonical score decides.
//
// docs/kernels.md has the proof. In short: each query has a floor, at first guessed from a sample of the anchors. Every
// anchor whose cheap product reaches floor - error is scored canonically, while its row is in the cache, and listed if
// the score reaches the floor. If at least k are listed, nothing else can belong to the top k; if fewer are, the guess was
// too high, and the query is asked again without one. A full list is cut to its k best, which raises the floor.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "export.h"
#include "select.h"
#include "small.h"

namespace asif {
namespace {

constexpr int64_t TILE_BYTES = 512 * 1024;  // converted anchors that stay in a core's second-level cache
constexpr int64_t TILE_ROWS = 8192;         // at most
constexpr int64_t FEW_ROWS = 256;           // at most where floors are not guessed but rise from tile to tile
constexpr int64_t FEW_WANTED = 128;         // of all queries; to score some more takes less time than to read a sample
constexpr int64_t LIST_BYTES = 256 << 20;   // of all threads and queries at a time, at most
constexpr int GROUPED = GROUP * PANEL;
#if PRODUCT_BF16  // products take so little time that rows should be converted seldom
constexpr int64_t QUERY_BYTES = 32 << 20;
constexpr double PRODUCT_TIME = 2e-6;
#else
constexpr int64_t QUERY_BYTES = 6 << 20;  // of queries at a time, in all forms: they stay in the last-level cache
constexpr double PRODUCT_TIME = 1e-5;     // microseconds for one product of entries, measured
#endif

// Candidates listed for a query before the list is cut to k.
int64_t capacity_for(int64_t k) { return k * 5 / 2 + 32; }

// Scramble a number into [0, 1), as splitmix64 does (Steele, Lea and Flood 2014).
double scrambled(uint64_t number) {
    number = (number + 1) * 0x9e3779b97f4a7c15;
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9;
    number = (number ^ number >> 27) * 0x94d049bb133111eb;
    return (double)((number ^ number >> 31) >> 11) * 0x1p-53;
}

class Search : Proposals {
   public:
    Search(const Anchors& anchors, Type type, const float* queries, int64_t count, int64_t k, Team& team)
        : Proposals(anchors, type, queries, count, k, team),
          in_group_(std::clamp<int64_t>(queries_.panels() / team.size(), 1, GROUP)),
          groups_((queries_.panels() + in_group_ - 1) / in_group_), capacity_(capacity_for(k)),
          tile_rows_(tile_rows(std::clamp<int64_t>(TILE_BYTES / (int64_t)product_->row_bytes(), 1, most_rows()))),
          tiles_((anchors.count() + tile_rows_ - 1) / tile_rows_), floors_(count, LOWEST) {}

    // Write the top k; returns the queries whose guess was too high, or that met something not finite.
    std::vector<int64_t> run(bool guess, int64_t* indices, float* scores) {
        if (guess) guess_floors();
        collect();
        return decide(indices, scores);
    }

   private:
    int64_t most_rows() const { return few_wanted() ? FEW_ROWS : TILE_ROWS; }
    bool few_wanted() const { return queries_.count <= FEW && queries_.count * k_ <= FEW_WANTED; }

    int64_t first_of(int64_t group) const { return group * in_group_ * PANEL; }
    int64_t asked(int64_t group) const { return std::min(in_group_ * PANEL, queries_.count - first_of(group)); }

    static Buffer<float> new_block() {
        Buffer<float> block = buffer<float>(MOST_BLOCK_ROWS * PANEL);
        std::fill_n(block.get(), MOST_BLOCK_ROWS * PANEL, 0.0f);  // products may leave out queries that do not exist
        return block;
    }

    Tile new_tile() const {
        Tile tile;
        tile.rows = buffer<const void*>(tile_rows_);
        if (anchors_.quantised) tile.quantised = buffer<const char*>(tile_rows_);
        tile.converted = buffer<char>(tile_rows_ * product_->row_bytes());
        return tile;
    }

    // Multiply a tile by a group of panels, block by block; use(query in the group, first row, rows, block). The rows of a
    // block meet all panels of the group while they are in the first-level cache.
    template <class Use>
    void products(Tile& tile, int64_t group, float* block, Use use) const {
        const int64_t first = group * in_group_, last = std::min(first + in_group_, queries_.panels());
        for (int row = 0; row < tile.count; row += product_->block_rows) {
            const int rows = std::min(product_->block_rows, tile.count - row);
            for (int64_t panel = first; panel < last; ++panel) {
                product_->multiply(tile, row, rows, panel, block);
                use((int)(panel - first) * PANEL, row, rows, block);
            }
        }
    }

    // Guess each query's floor: the product that some rank of a sample reaches, low enough to be passed by k of all.
    // The sample's size balances its cost (of a row, shared by all queries, and of a product) against that of scoring more
    // candidates than necessary. A first small part gives a rough floor, so that of the rest few products must be ranked.
    void guess_floors() {
        if (few_wanted()) return;
        const double count = (double)anchors_.count(), k = (double)k_;
        const double worth = 0.15 / (0.1 / (double)queries_.count + 0.0015);  // scoring / sampling, measured
        const double balanced = std::pow(worth * k * k / count, 2.0 / 3);     // anchors of the top k in the sample
        const double expected = std::max(std::min(balanced, k / 8), std::min(k / 4, 1024 * k / count));
        const double rough = std::min(expected, 8.0), rest = expected - rough;
        const auto size = [&](double members) { return (int64_t)std::ceil(members * count / k); };
        const auto rank = [](double members) { return (int64_t)std::ceil(members + 4 * std::sqrt(members) + 2); };
        if (2 * k > count || rank(rough) >= size(rough)) return;
        std::vector<Tile> first = sampled(0, size(rough));
        rough_floors(first, rank(rough));
        if (rest <= 8) return;
        std::vector<Tile> others = sampled(1ull << 32, size(rest));
        raise_floors(others, rank(rest));
    }

    // Make ready `size` anchors: one, at a scrambled place, of each of as many equal parts, so that anchors that repeat with
    // some period do not repeat in the sample. `seed` tells two samples apart.
    std::vector<Tile> sampled(uint64_t seed, int64_t size) const {
        const double step = (double)anchors_.count() / (double)size;
        std::vector<Tile> tiles((size + tile_rows_ - 1) / tile_rows_);
        team_.each((int64_t)tiles.size(), [&](int, int64_t at) {
            tiles[at] = new_tile();
            tiles[at].sample = true;
            Finder find(anchors_);
            for (int64_t row = at * tile_rows_; row < std::min((at + 1) * tile_rows_, size); ++row)
                put(find, (int64_t)(((double)row + scrambled(seed + row)) * step), tiles[at]);
            product_->make_ready(tiles[at]);
        });
        return tiles;
    }

    void rough_floors(std::vector<Tile>& tiles, int64_t rank) {
        team_.each(groups_, [&](int, int64_t group) {
            Processor processor;
            std::vector<Floats> best(GROUP * 2 * rank, broadcast(LOWEST));  // the highest, sorted, for LANES queries
            Buffer<float> block = new_block();
            for (Tile& tile : tiles)
                products(tile, group, block.get(), [&](int in_group, int, int rows, const float* results) {
                    for (int row = 0; row < rows; ++row)
                        for (int half = 0; half < 2; ++half) {
                            Floats value = load(results + row * PANEL + half * LANES);
                            Floats* sorted = &best[(in_group / LANES + half) * rank];
                            if (!at_least(value, sorted[rank - 1])) continue;
                            for (int64_t place = 0; place < rank; ++place) {
                                const Floats kept = larger(sorted[place], value);
                                value = smaller(sorted[place], value);
                                sorted[place] = kept;
                            }
                        }
                });
            for (int64_t at = 0; at < asked(group); ++at)
                floors_[first_of(group) + at] = best[(at / LANES + 1) * rank - 1][at % LANES];
        });
    }

    void raise_floors(std::vector<Tile>& tiles, int64_t rank) {
        team_.each(groups_, [&](int, int64_t group) {
            Processor processor;
            float limits[GROUPED];
            std::fill(limits, limits + GROUPED, NEVER);
            std::copy_n(&floors_[first_of(group)], asked(group), limits);
            std::vector<std::vector<float>> passed(GROUPED);
            Buffer<float> block = new_block();
            for (Tile& tile : tiles)
                products(tile, group, block.get(), [&](int in_group, int, int rows, const float* results) {
                    each_passing(results, rows, limits + in_group, [&](int row, int at) {
                        passed[in_group + at].push_back(results[row * PANEL + at]);
                    });
                });
            for (int64_t at = 0; at < asked(group); ++at) {
                auto& some = passed[at];
                if ((int64_t)some.size() < rank) continue;
                std::nth_element(some.begin(), some.begin() + rank - 1, some.end(), std::greater<>());
                floors_[first_of(group) + at] = some[rank - 1];
            }
        });
    }

    // Canonical scores that reach the floor.
    struct List {
        Scored* first;
        size_t count = 0;
    };

    // What a thread works with.
    struct Worker {
        Tile tile;
        Buffer<float> block;
        Buffer<uint16_t> passed;  // [GROUPED, tile_rows]: rows of the tile whose product passed, by query
        Buffer<float> products;   // [FEW, tile_rows]: those products, where few are wanted
        Buffer<double> wide;
        Buffer<Scored> memory;
        std::vector<List> lists;
        std::vector<float> floors;
    };

    Worker new_worker() const {
        Worker worker{new_tile(), new_block(), buffer<uint16_t>(GROUPED * tile_rows_),
                      buffer<float>(few_wanted() ? FEW * tile_rows_ : 0), buffer<double>(queries_.stride),
                      buffer<Scored>(queries_.count * capacity_), std::vector<List>(queries_.count), floors_};
        for (int64_t at = 0; at < queries_.count; ++at) worker.lists[at].first = &worker.memory[at * capacity_];
        return worker;
    }

    // Meet every anchor once; list those that may belong to a query's top k.
    void collect() {
        for (int thread = 0; thread < team_.size(); ++thread) workers_.push_back(new_worker());
        team_.each(tiles_, [&](int thread, int64_t at) {
            Processor processor;
            Worker& worker = workers_[thread];
            worker.tile.first = at * tile_rows_;
            worker.tile.count = 0;
            Finder find(anchors_);
            for (int64_t row = worker.tile.first; row < std::min(worker.tile.first + tile_rows_, anchors_.count()); ++row)
                put(find, row, worker.tile);
            product_->make_ready(worker.tile);
            for (int64_t group = 0; group < groups_; ++group) list_group(group, worker);
            if (!worker.tile.finite) finite_ = false;
        });
    }

    void list_group(int64_t group, Worker& worker) const {
        const int64_t first = first_of(group);
        float limits[GROUPED];
        uint32_t counts[GROUPED] = {};
        std::fill(limits, limits + GROUPED, NEVER);
        for (int64_t at = 0; at < asked(group); ++at)
            limits[at] = down(worker.floors[first + at] - product_->error(first + at, worker.tile));
        const bool exact = product_->exact(), few = few_wanted();
        products(worker.tile, group, worker.block.get(), [&](int in_group, int first_row, int rows, const float* results) {
            each_passing(results, rows, limits + in_group, [&](int row, int at) {
                if (exact) return list(first + in_group + at, results[row * PANEL + at], first_row + row, worker);
                const int64_t place = (in_group + at) * tile_rows_ + counts[in_group + at]++;
                worker.passed[place] = (uint16_t)(first_row + row);
                if (few) worker.products[place] = results[row * PANEL + at];
            });
        });
        for (int64_t at = 0; at < asked(group); ++at) {
            if (few) counts[at] = outranked(at, counts[at], worker);
            if (counts[at]) score(first + at, &worker.passed[at * tile_rows_], counts[at], worker);
        }
    }

    // Raise the floor to what the k best products of the tile prove, drop rows that stay below, and return how many are left.
    uint32_t outranked(int64_t query, uint32_t count, Worker& worker) const {
        if (count <= k_) return count;
        float* const products = &worker.products[query * tile_rows_];
        uint16_t* const passed = &worker.passed[query * tile_rows_];
        float ranked[FEW_ROWS];
        std::copy_n(products, count, ranked);
        std::nth_element(ranked, ranked + k_ - 1, ranked + count, std::greater<>());
        float& floor = worker.floors[query];
        floor = std::max(floor, down(ranked[k_ - 1] - product_->excess(query, worker.tile)));
        const float limit = down(floor - product_->error(query, worker.tile));
        uint32_t left = 0;
        for (uint32_t at = 0; at < count; ++at)
            if (products[at] >= limit) passed[left++] = passed[at];
        return left;
    }

    // Score rows of the tile that passed.
    void score(int64_t query, const uint16_t* passed, uint32_t count, Worker& worker) const {
        List& of_query = worker.lists[query];
        __builtin_prefetch(of_query.first + of_query.count, 1);
        if (product_->scores(query, worker.tile)) {
            for (uint32_t at = 0; at < count; ++at)
                list(query, product_->score(query, worker.tile, passed[at]), passed[at], worker);
            return;
        }
        double* wide = worker.wide.get();
        std::copy_n(queries_[query], queries_.stride, wide);
        for (uint32_t at = 0; at < count; ++at) {
            const char* next = static_cast<const char*>(worker.tile.rows[passed[std::min(at + 1, count - 1)]]);
            for (int64_t byte = 0; byte < std::min<int64_t>(row_bytes(), 1024); byte += 64) __builtin_prefetch(next + byte);
            list(query, canonical(type_, wide, worker.tile.rows[passed[at]], anchors_.dim), passed[at], worker);
        }
    }

    int64_t row_bytes() const { return anchors_.dim * (type_ == FLOAT ? 4 : 2); }

    // List a canonical score, if it reaches the floor.
    void list(int64_t query, float score, int row, Worker& worker) const {
        List& of_query = worker.lists[query];
        if (!(score >= worker.floors[query])) return;
        of_query.first[of_query.count++] = {score, (uint32_t)(worker.tile.first + row)};
        if (of_query.count < (size_t)capacity_) return;
        std::nth_element(of_query.first, of_query.first + k_ - 1, of_query.first + capacity_, better);
        of_query.count = k_;
        worker.floors[query] = of_query.first[k_ - 1].score;
    }

    // Take the k best of all threads' lists; returns the queries for which there are fewer.
    std::vector<int64_t> decide(int64_t* indices, float* scores) const {
        std::vector<char> failed(queries_.count, 0);
        const int64_t size = std::clamp<int64_t>(queries_.count / (4 * team_.size()), 1, PANEL);  // queries of an item
        team_.each((queries_.count + size - 1) / size, [&](int, int64_t item) {
            Sorter sorter;
            for (int64_t query = item * size; query < std::min((item + 1) * size, queries_.count); ++query) {
                sorter.clear();
                for (const Worker& worker : workers_) sorter.add(worker.lists[query].first, worker.lists[query].count);
                failed[query] = !finite_ || !sorter.best(k_, indices + query * k_, scores + query * k_);
            }
        });
        std::vector<int64_t> again;
        for (int64_t at = 0; at < queries_.count; ++at)
            if (failed[at]) again.push_back(at);
        return again;
    }

    const int64_t in_group_, groups_;
    const int64_t capacity_;
    const int64_t tile_rows_, tiles_;
    std::vector<float> floors_;
    std::vector<Worker> workers_;
};

// Search for some queries; those whose guess was too high once more without one. Returns how many met no k finite scores.
int64_t search(const Anchors& anchors, Type type, const float* queries, int64_t count, int64_t k, int64_t small, Team& team,
               int64_t* indices, float* scores) {
    if (anchors.count() <= small)
        return SmallSearch(anchors, type, queries, count, k, team).run(indices, scores);
    const std::vector<int64_t> again = Search(anchors, type, queries, count, k, team).run(true, indices, scores);
    if (again.empty()) return 0;
    const size_t dim = anchors.dim;
    std::vector<float> asked(again.size() * dim), found(again.size() * k);
    std::vector<int64_t> places(again.size() * k);
    for (size_t at = 0; at < again.size(); ++at) std::copy_n(queries + again[at] * dim, dim, &asked[at * dim]);
    Search without(anchors, type, asked.data(), (int64_t)again.size(), k, team);
    const int64_t unanswered = (int64_t)without.run(false, places.data(), found.data()).size();
    for (size_t at = 0; at < again.size(); ++at) {
        std::copy_n(&places[at * k], k, indices + again[at] * k);
        std::copy_n(&found[at * k], k, scores + again[at] * k);
    }
    return unanswered;
}

// How many queries hold something that is not finite.
int64_t not_finite(const float* queries, int64_t count, int dim) {
    int64_t found = 0;
    for (int64_t at = 0; at < count; ++at) found += !finite(queries + at * dim, dim);
    return found;
}

// Tell whether pairs of int16 hold every query.
bool all_short(const float* queries, int64_t count, int dim) {
    float longest = 0;
    for (int64_t at = 0; at < count; ++at) {
        Floats square{};
        each_vector(queries + at * dim, dim, [&](int, Floats value) { square += value * value; });
        longest = std::max(longest, sum(square));
    }
    return longest < LONGEST * LONGEST * 0.999f;  // on the grid they may be a little longer
}

// How many queries are searched at a time: as few times as memory and cache allow, and each time about as many.
int64_t batch_size(int64_t count, int dim, int64_t k, int threads) {
    constexpr int64_t of_entry = 8;  // bytes in all forms, at most
    const int64_t listed = LIST_BYTES / (threads * capacity_for(k) * (int64_t)sizeof(Scored));
    const int64_t most = std::max<int64_t>(GROUPED, std::min(listed, QUERY_BYTES / (dim * of_entry)));
    const int64_t batches = std::max<int64_t>(1, (count + most - 1) / most), fair = (count + batches - 1) / batches;
    return (fair + GROUPED - 1) / GROUPED * GROUPED;
}

// As many threads as there is work for: waking one costs some 10 microseconds.
int useful(int threads, int64_t queries, const Anchors& anchors, int64_t k) {
    const double dim = anchors.dim, row = (anchors.whole ? 0.03e-3 : 0.15e-3) * dim, product = PRODUCT_TIME * dim;
    const double scored = (anchors.whole ? 0.1e-3 : 0.2e-3) * dim;  // microseconds, measured
    const double work = (double)anchors.count() * (row + product * (double)queries) + scored * (double)(k * queries);
    return (int)std::clamp(work / 20, 1.0, (double)threads);
}

}  // namespace
}  // namespace asif

// Find the top k, 1 <= k <= anchors: 0 where all went well, -1 without memory, else how many queries met scores that
// are not finite. `quantised`: what asif_quantise wrote of each block, or null. `type`: 0 float16, 1 bfloat16, 2 float32.
// `small`: of up to as many anchors all products are computed; only then `whole` is read, what asif_make_whole wrote of all
// rows, or null. `cancelled` may be set at any time.
ASIF_EXPORT int64_t asif_topk(const float* queries, int64_t count, const char* const* blocks, const int64_t* strides,
                             const int64_t* starts, const char* const* quantised, const int16_t* whole, int64_t block_count,
                             int dim, int type, int64_t k, int64_t small, int threads, const int* cancelled,
                             int64_t* indices, float* scores) {
    using namespace asif;
    if (const int64_t unfit = not_finite(queries, count, dim)) return unfit;
    if (starts[block_count] > small || !all_short(queries, count, dim)) whole = nullptr;
    const Anchors anchors{blocks, strides, starts, block_count, dim, quantised, whole};
    try {
        Team team(useful(threads, count, anchors, k), reinterpret_cast<const std::atomic<int>*>(cancelled));
        const int64_t step = batch_size(count, dim, k, team.size());
        for (int64_t first = 0; first < count && !team.cancelled(); first += step) {
            const int64_t unanswered = search(anchors, (Type)type, queries + first * dim, std::min(step, count - first), k, small,
                                              team, indices + first * k, scores + first * k);
            if (unanswered && !team.cancelled()) return unanswered;
        }
        return 0;
    } catch (const std::bad_alloc&) {
        return -1;
    }
}

// The bytes that asif_make_whole writes of so many rows.
ASIF_EXPORT int64_t asif_whole_bytes(int64_t count, int dim) { return 2 * (int64_t)asif::whole_plane(count, dim) * sizeof(int16_t); }

// Write the rows of all blocks as pairs of int16, zeros before; returns how many of them those do not hold: all are needed.
ASIF_EXPORT int64_t asif_make_whole(const char* const* blocks, const int64_t* strides, const int64_t* starts,
                                    int64_t block_count, int dim, int type, int16_t* to) {
    using namespace asif;
    const Anchors anchors{blocks, strides, starts, block_count, dim, nullptr, nullptr};
    const size_t stride = whole_stride(dim), plane = whole_plane(anchors.count(), dim);
    Finder find(anchors);
    int64_t unfit = 0;
    for (int64_t row = 0; row < anchors.count(); ++row)
        unfit += !make_whole((Type)type, find(row), dim, to + row * stride, to + plane + row * stride);
    return unfit;
}

// The bytes that asif_quantise writes for a row.
ASIF_EXPORT int64_t asif_quantised_bytes(int dim) { return (int64_t)asif::quantised_bytes(dim); }

// Write rows, `stride` bytes apart, in int8, one after another.
ASIF_EXPORT int64_t asif_quantise(const char* rows, int64_t stride, int64_t count, int dim, int type, int threads, char* to) {
    using namespace asif;
    constexpr int64_t AT_ONCE = 1024;
    try {
        Team team(threads, nullptr);
        team.each((count + AT_ONCE - 1) / AT_ONCE, [&](int, int64_t item) {
            for (int64_t row = item * AT_ONCE; row < std::min((item + 1) * AT_ONCE, count); ++row)
                quantise((Type)type, rows + row * stride, dim, to + row * quantised_bytes(dim));
        });
        return 0;
    } catch (const std::bad_alloc&) {
        return -1;
    }
}
