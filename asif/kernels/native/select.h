// Choosing the best of some, score descending, then smaller index.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace asif {

struct Scored {
    float score;
    uint32_t index;
};

inline bool better(const Scored& a, const Scored& b) {
    return a.score > b.score || (a.score == b.score && a.index < b.index);
}

// Sorts the best of what it was given.
class Sorter {
   public:
    void clear() { some_.clear(); }
    void add(const Scored* first, size_t count) { some_.insert(some_.end(), first, first + count); }

    // Write the k best; false where there are fewer.
    bool best(size_t k, int64_t* indices, float* scores) {
        if (some_.size() < k) return false;
        spare_.resize(some_.size());
        sort(some_.data(), some_.size(), k, 0);
        for (size_t place = 0; place < k; ++place) {
            indices[place] = some_[place].index;
            scores[place] = some_[place].score + 0.0f;  // not -0.0
        }
        return true;
    }

   private:
    static constexpr int MOST_BINS = 2048, LEVELS = 3;
    static constexpr size_t FEW = 64;    // are sorted by comparing
    static constexpr uint32_t MANY = 16;  // in one bin are not sorted by comparing

    // Bring the k best to the front, in order: bins of equal width first, which leaves little to compare.
    void sort(Scored* some, size_t count, size_t k, int level) {
        float low = some[0].score, high = low;
        for (size_t at = 1; at < count; ++at) low = std::min(low, some[at].score), high = std::max(high, some[at].score);
        const int bins = (int)std::min<size_t>(2 * count, MOST_BINS);
        const float scale = (float)(bins - 1) / (high - low);
        if (count < FEW || level == LEVELS || !(scale > 0 && scale < 1e30f))  // few, or all equal, or infinite
            return std::sort(some, some + count, better);
        const auto bin = [&](const Scored& each) { return (int)((high - each.score) * scale); };
        uint32_t ends[MOST_BINS];
        std::fill_n(ends, bins, 0u);
        for (size_t at = 0; at < count; ++at) ++ends[bin(some[at])];
        uint32_t before = 0;
        for (int of = 0; of < bins; ++of) {
            const uint32_t of_bin = ends[of];
            ends[of] = before, before += of_bin;
        }
        Scored* const binned = &spare_[some - some_.data()];
        for (size_t at = 0; at < count; ++at) binned[ends[bin(some[at])]++] = some[at];
        std::copy_n(binned, count, some);
        size_t begin = 0;  // of the bin; all bins that hold one of the k best are met
        for (int of = 0; begin < k; begin = ends[of++]) {
            const size_t end = ends[of];
            if (end - begin > MANY) sort(some + begin, end - begin, std::min(k, end) - begin, level + 1);
            else insert(some, begin, end);
        }
    }

    static void insert(Scored* some, size_t begin, size_t end) {
        for (size_t at = begin + 1; at < end; ++at) {
            const Scored each = some[at];
            size_t place = at;
            for (; place > begin && better(each, some[place - 1]); --place) some[place] = some[place - 1];
            some[place] = each;
        }
    }

    std::vector<Scored> some_, spare_;
};

}  // namespace asif
