// Threads that share the items of a call.
//
// A crew waits between calls, since starting threads costs as much as a small search. It belongs to the process that
// started it: a fork leaves its child none, and the child starts its own.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

namespace asif {

// Have this thread's memory for exceptions laid out: without memory it is too late, and the process is aborted.
inline void prepare_to_throw() {
    [[maybe_unused]] volatile int asked = std::uncaught_exceptions();  // volatile: the call looks as if it did nothing
}

// Threads that join in the work of a round as long as it is open. Who is late is not waited for.
class Crew {
   public:
    using Work = std::function<void(int)>;  // of a thread, numbered from 1

    // Take the one that is kept, or make one, and see that it has `wanted` threads, if the system gives so many.
    static Crew* take(int wanted) {
        Crew* crew = kept().exchange(nullptr);
        if (!crew || crew->process_ != getpid()) crew = new Crew;  // another process's has no threads here
        try {
            while (crew->size_ < wanted) {
                std::thread([crew, number = crew->size_ + 1] { crew->serve(number); }).detach();
                ++crew->size_;
            }
        } catch (const std::system_error&) {
            // Those there are do all of it.
        }
        for (int turn = 0; crew->ready_.load() < crew->size_;) rest(turn);
        return crew;
    }

    static void give_back(Crew* crew) {
        Crew* none = nullptr;
        if (!kept().compare_exchange_strong(none, crew)) crew->dismiss();
    }

    int size() const { return size_; }

    // Do work(0) here and work(number) on up to `helpers` threads; returns when all that began have ended.
    void round(int helpers, const Work& work) {
        work_ = &work, helpers_ = helpers;
        announce(OPEN);
        work(0);
        state_.fetch_and(~OPEN);
        for (int turn = 0; state_.load(std::memory_order_acquire) & ACTIVE;) rest(turn);
    }

   private:
    // The state: how many rounds there were, whether one is open, how many threads are active in it.
    static constexpr uint64_t ROUND = 1ull << 32, OPEN = 1ull << 31, LEAVE = 1ull << 30, ACTIVE = LEAVE - 1;
    static constexpr int SPINS = 4096;  // some 100 microseconds

    Crew() = default;

    static std::atomic<Crew*>& kept() {
        static std::atomic<Crew*> one{nullptr};
        return one;
    }

    static void rest(int& turn) {
        if (++turn < SPINS) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        } else std::this_thread::yield();
    }

    void announce(uint64_t what) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            state_.store((state_.load() & ~(ROUND - 1)) + ROUND + what);
        }
        if (asleep_.load()) woken_.notify_all();
    }

    void dismiss() {
        announce(LEAVE);
        leave();
    }

    // Who leaves last, of the threads and their owner, takes the crew along.
    void leave() {
        if (++left_ > size_) delete this;
    }

    void serve(int number) {
        prepare_to_throw();
        ++ready_;
        for (uint64_t seen = 0;;) {
            uint64_t state;
            for (int turn = 0; (state = state_.load()) / ROUND == seen && turn < SPINS;) rest(turn);
            if (state / ROUND == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                ++asleep_;
                woken_.wait(lock, [&] { return (state = state_.load()) / ROUND != seen; });
                --asleep_;
            }
            seen = state / ROUND;
            if (state & LEAVE) return leave();
            while (state & OPEN && state / ROUND == seen && number <= helpers_.load())
                if (state_.compare_exchange_weak(state, state + 1)) {
                    (*work_)(number);
                    state_.fetch_sub(1, std::memory_order_release);
                    break;
                }
        }
    }

    const pid_t process_ = getpid();
    int size_ = 0;
    std::atomic<uint64_t> state_{0};
    std::atomic<int> helpers_{0}, ready_{0}, asleep_{0}, left_{0};
    const Work* work_ = nullptr;
    std::mutex mutex_;
    std::condition_variable woken_;
};

// The threads of one call.
class Team {
   public:
    // `cancelled`, if not null, may be set at any time: items not begun are then left out.
    Team(int threads, const std::atomic<int>* cancelled)
        : cancelled_(cancelled), crew_(threads > 1 ? Crew::take(threads - 1) : nullptr),
          helpers_(crew_ ? std::min(crew_->size(), threads - 1) : 0) {
        prepare_to_throw();
    }

    ~Team() {
        if (crew_) Crew::give_back(crew_);
    }

    Team(const Team&) = delete;

    int size() const { return helpers_ + 1; }
    bool cancelled() const { return cancelled_ && cancelled_->load(std::memory_order_relaxed); }

    // Do action(thread, item) for every item; raises bad_alloc if one did. Each thread meets its items in ascending order.
    template <class Action>
    void each(int64_t items, Action action) {
        std::atomic<int64_t> next{0};
        std::atomic<bool> exhausted{false};
        const auto work = [&](int thread) {
            try {
                for (int64_t item; (item = next.fetch_add(1)) < items && !cancelled();) action(thread, item);
            } catch (const std::bad_alloc&) {
                exhausted = true;
            }
        };
        if (items < 2 || !helpers_) work(0);
        else crew_->round((int)std::min<int64_t>(helpers_, items - 1), work);
        if (exhausted) throw std::bad_alloc();
    }

   private:
    const std::atomic<int>* cancelled_;
    Crew* const crew_;
    const int helpers_;
};

}  // namespace asif
