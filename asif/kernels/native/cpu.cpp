// Which of the compiled libraries this processor can run; part of the portable one, which every processor can.
#include "export.h"

#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
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

bool has_bfloat16() { return feature(7, 1, 0, 5); }  // AVX512-BF16

std::string supported() {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                      feature(1, 0, 2, 29);  // float16 conversions
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    const bool pairs = avx512 && feature(7, 0, 2, 11);  // AVX512-VNNI
    std::string names;
    if (pairs && has_bfloat16() && feature(7, 0, 3, 24) && feature(7, 0, 3, 22) && tiles_granted()) names += "amx ";
    if (pairs) names += "avx512vnni ";
    if (avx512) names += "avx512 ";
    if (avx2 && feature(7, 1, 0, 4)) names += "avxvnni ";
    if (avx2) names += "avx2 ";
    return names;
}

#else

bool has_bfloat16() { return false; }  // not asked

#if defined(__aarch64__) && defined(__linux__)

std::string supported() {
    constexpr unsigned long products_of_bytes = 1ul << 20;  // HWCAP_ASIMDDP
    return getauxval(AT_HWCAP) & products_of_bytes ? "neon " : "";
}

#elif defined(__aarch64__) && defined(__APPLE__)

std::string supported() { return "neon "; }  // every such processor multiplies bytes

#else

std::string supported() { return ""; }

#endif
#endif

}  // namespace

// Name the instruction sets at hand, best first, separated by spaces.
ASIF_EXPORT const char* asif_instructions() {
    static const std::string names = supported() + "portable";
    return names.c_str();
}

// Tell whether this processor multiplies bfloat16 numbers.
ASIF_EXPORT int asif_has_bfloat16() { return has_bfloat16(); }

// Counts up with every change of what Python calls, so that libraries left from another version are not used.
ASIF_EXPORT int asif_interface() { return 5; }
