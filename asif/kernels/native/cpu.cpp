// Which of the compiled libraries this processor can run; part of the portable one, which every processor can.
#include "export.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace {

#if defined(__x86_64__)

bool feature(int leaf, int subleaf, int word, int bit) {
    unsigned words[4];
    return __get_cpuid_count(leaf, subleaf, &words[0], &words[1], &words[2], &words[3]) && (words[word] >> bit & 1);
}

// Matrix tiles are large: Linux saves them for processes that asked for them (ARCH_REQ_XCOMP_PERM of XTILEDATA).
bool tiles_granted() {
#if defined(__linux__) && defined(SYS_arch_prctl)
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}

#endif

}  // namespace

// Name the best instruction set at hand: amx, avx512bf16, avx512, avx2 or portable.
ASIF_EXPORT const char* asif_instructions() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                      feature(1, 0, 2, 29);  // float16 conversions
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    const bool brain = avx512 && feature(7, 1, 0, 5);
    if (brain && feature(7, 0, 3, 24) && feature(7, 0, 3, 22) && tiles_granted()) return "amx";
    if (brain) return "avx512bf16";
    if (avx512) return "avx512";
    if (avx2) return "avx2";
#endif
    return "portable";
}

// Counts up with every change of what Python calls, so that libraries left from another version are not used.
ASIF_EXPORT int asif_interface() { return 3; }
