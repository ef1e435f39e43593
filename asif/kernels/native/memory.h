// Working memory: aligned, and kept from call to call, because fresh pages cost as much as the arithmetic on them.
#pragma once

#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

namespace asif {

class Pool {
   public:
    static constexpr size_t KEPT = 64 << 20;  // bytes kept at most, in all

    void* take(size_t bytes) {
        if (bytes >= SMALL) {
            std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);  // never wait: a fork may have left it locked
            if (lock)
                for (size_t at = kept_.size(); at-- > 0;)
                    if (kept_[at].bytes == bytes) {
                        void* memory = kept_[at].memory;
                        kept_.erase(kept_.begin() + at);
                        total_ -= bytes;
                        return memory;
                    }
        }
        void* memory = std::aligned_alloc(64, bytes);
        if (!memory) throw std::bad_alloc();
        return memory;
    }

    void give(void* memory, size_t bytes) {
        if (bytes >= SMALL) {
            std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
            while (lock && !kept_.empty() && total_ + bytes > KEPT) {  // the oldest leave first
                std::free(kept_.front().memory);
                total_ -= kept_.front().bytes;
                kept_.erase(kept_.begin());
            }
            if (lock && bytes <= KEPT) {
                kept_.push_back({memory, bytes});
                total_ += bytes;
                return;
            }
        }
        std::free(memory);
    }

   private:
    struct Piece {
        void* memory;
        size_t bytes;
    };
    static constexpr size_t SMALL = 16 << 10;  // less is quick to get
    std::mutex mutex_;
    std::vector<Piece> kept_;
    size_t total_ = 0;
};

inline Pool& pool() {
    static Pool* const one = new Pool;  // never destroyed: threads may outlive the end of main
    return *one;
}

struct GiveBack {
    size_t bytes = 0;
    void operator()(void* memory) const { pool().give(memory, bytes); }
};

template <class T>
using Buffer = std::unique_ptr<T[], GiveBack>;

// Memory for `count` values, not initialised, aligned to a cache line.
template <class T>
Buffer<T> buffer(size_t count) {
    const size_t bytes = (count * sizeof(T) + 4095) / 4096 * 4096;
    return Buffer<T>(static_cast<T*>(pool().take(bytes)), GiveBack{bytes});
}

}  // namespace asif
