// A team of threads for one call: nothing is left running afterwards, so a process may fork.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace asif {

class Team {
   public:
    // `cancelled`, if not null, may be set at any time: items not begun are then left out.
    Team(int threads, const std::atomic<int>* cancelled) : cancelled_(cancelled) {
        try {
            for (int thread = 1; thread < threads; ++thread) others_.emplace_back([this, thread] { serve(thread); });
        } catch (const std::system_error&) {
            // The system gives no more threads: those there are do all of it.
        }
    }

    ~Team() {
        announce(nullptr);
        for (auto& other : others_) other.join();
    }

    Team(const Team&) = delete;

    int size() const { return (int)others_.size() + 1; }
    bool cancelled() const { return cancelled_ && cancelled_->load(std::memory_order_relaxed); }

    // Do action(thread, item) for every item; raises bad_alloc if one did. Each thread meets its items in ascending order.
    template <class Action>
    void each(int64_t items, Action action) {
        std::atomic<int64_t> next{0};
        const std::function<void(int)> work = [&](int thread) {
            try {
                for (int64_t item; (item = next.fetch_add(1)) < items && !cancelled();) action(thread, item);
            } catch (const std::bad_alloc&) {
                exhausted_ = true;
            }
        };
        const bool alone = items < 2 || others_.empty();
        if (!alone) busy_ = (int)others_.size(), announce(&work);
        work(0);
        for (int turn = 0; !alone && busy_.load(std::memory_order_acquire);) rest(turn);
        if (exhausted_) throw std::bad_alloc();
    }

   private:
    static constexpr int SPINS = 4096;

    static void rest(int& turn) {
        if (++turn < SPINS) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        } else std::this_thread::yield();
    }

    void announce(const std::function<void(int)>* work) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            work_ = work;
            round_.fetch_add(1, std::memory_order_release);
        }
        woken_.notify_all();
    }

    void serve(int thread) {
        for (uint32_t seen = 0;;) {
            for (int turn = 0; round_.load(std::memory_order_acquire) == seen && turn < SPINS;) rest(turn);
            const std::function<void(int)>* work;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                woken_.wait(lock, [&] { return round_.load() != seen; });
                seen = round_.load();
                work = work_;
            }
            if (!work) return;
            (*work)(thread);
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    const std::atomic<int>* cancelled_;
    std::atomic<bool> exhausted_{false};
    std::atomic<int> busy_{0};
    std::atomic<uint32_t> round_{0};
    std::mutex mutex_;
    std::condition_variable woken_;
    const std::function<void(int)>* work_ = nullptr;
    std::vector<std::thread> others_;  // last: they use what stands above
};

}  // namespace asif
