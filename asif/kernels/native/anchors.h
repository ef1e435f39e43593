// Anchor rows lying in blocks, numbered on from block to block.
#pragma once

#include <cstdint>

#include "quantised.h"

namespace asif {

struct Anchors {
    const char* const* blocks;  // the first row of each
    const int64_t* strides;     // bytes from row to row, by block
    const int64_t* starts;      // the number of each block's first row, and the count of all rows at the end
    int64_t block_count;
    int dim;
    const char* const* quantised;  // the blocks in int8, or null
    const int16_t* whole;          // all rows as pairs of int16 (whole.h), or null

    int64_t count() const { return starts[block_count]; }
};

// Finds rows, asked for in ascending order.
class Finder {
   public:
    explicit Finder(const Anchors& anchors) : anchors_(anchors) {}

    const char* operator()(int64_t row) {
        while (row >= anchors_.starts[block_ + 1]) ++block_;
        return anchors_.blocks[block_] + (row - anchors_.starts[block_]) * anchors_.strides[block_];
    }

    // Find the quantised form of the row that was found last.
    const char* quantised(int64_t row) const {
        return anchors_.quantised[block_] + (row - anchors_.starts[block_]) * quantised_bytes(anchors_.dim);
    }

   private:
    const Anchors& anchors_;
    int64_t block_ = 0;
};

}  // namespace asif
