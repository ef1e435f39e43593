// Choosing the best of some, score descending, then smaller index.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace asif {

struct Scored {
    float score;
    uint32_t index;
};

inline bool better(const Scored& a, const Scored& b) {
    return a.score > b.score || (a.score == b.score && a.index < b.index);
}

// Map floats to integers that ascend as the floats descend; 0.0 and -0.0 are one.
inline uint32_t descending_key(float score) {
    const float positive_zero = score + 0.0f;
    uint32_t bits;
    std::memcpy(&bits, &positive_zero, 4);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

// Sorts the best of what it was given.
class Sorter {
   public:
    void clear() { some_.clear(); }
    void add(const Scored* first, size_t count) { some_.insert(some_.end(), first, first + count); }

    // Write the k best; false where there are fewer.
    bool best(size_t k, int64_t* indices, float* scores) {
        if (some_.size() < k) return false;
        if (some_.size() > k + 64) drop_lowest(k);
        if (some_.size() < 64) std::sort(some_.begin(), some_.end(), better);
        else sort_by_digits();
        for (size_t place = 0; place < k; ++place) {
            indices[place] = some_[place].index;
            scores[place] = some_[place].score + 0.0f;  // not -0.0
        }
        return true;
    }

   private:
    // Keep the k best and the few that share a bin with the k-th.
    void drop_lowest(size_t k) {
        float low = some_[0].score, high = low;
        for (const Scored& each : some_) low = std::min(low, each.score), high = std::max(high, each.score);
        const float scale = (BINS - 1) / (high - low);
        if (!(scale > 0 && scale < 1e30f)) return;  // all equal, or not finite
        auto bin = [&](const Scored& each) { return (int)((each.score - low) * scale); };
        uint32_t counts[BINS] = {};
        for (const Scored& each : some_) ++counts[bin(each)];
        size_t above = 0;
        int edge = BINS;
        while (above < k) above += counts[--edge];
        size_t kept = 0;
        for (const Scored& each : some_) {
            some_[kept] = each;
            kept += bin(each) >= edge;
        }
        some_.resize(kept);
    }

    // Radix sort by score; runs of equal scores by index afterwards.
    void sort_by_digits() {
        uint32_t counts[4][256] = {};
        for (const Scored& each : some_) {
            const uint32_t key = descending_key(each.score);
            for (int digit = 0; digit < 4; ++digit) ++counts[digit][key >> 8 * digit & 255];
        }
        spare_.resize(some_.size());
        for (int digit = 0; digit < 4; ++digit) {
            uint32_t place = 0;
            bool one_value = false;
            for (uint32_t& count : counts[digit]) {
                one_value |= count == some_.size();
                const uint32_t first = place;
                place += count;
                count = first;
            }
            if (one_value) continue;
            for (const Scored& each : some_)
                spare_[counts[digit][descending_key(each.score) >> 8 * digit & 255]++] = each;
            some_.swap(spare_);
        }
        for (auto run = some_.begin(); run != some_.end();) {
            auto end = run + 1;
            while (end != some_.end() && end->score == run->score) ++end;
            if (end - run > 1) std::sort(run, end, better);
            run = end;
        }
    }

    static constexpr int BINS = 1024;
    std::vector<Scored> some_, spare_;
};

}  // namespace asif
