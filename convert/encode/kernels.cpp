#include "convert/encode/kernels.h"

#include "convert/encode/lane_loops.h"

namespace regauge::ggml_encode {
namespace {

// One set of functions per CPU. The loops are inlined into them, so that the attribute covers everything they do and no
// function compiled for a better CPU can be picked for another one's sake.
#define REGAUGE_KERNELS(ATTRIBUTES, WIDTH)                                                                            \
  ATTRIBUTES bool all_finite(std::span<const float> values) noexcept { return Loops<WIDTH>::all_finite(values); }     \
  ATTRIBUTES void search_scale_min(const Groups& groups, int largest, const ScaleSteps& steps, ErrorNorm norm,        \
                                   ScaleMin* found, std::uint8_t* codes) noexcept {                                   \
    Loops<WIDTH>::search_scale_min(groups, largest, steps, norm, found, codes);                                       \
  }                                                                                                                   \
  ATTRIBUTES void search_scale(const Groups& groups, int half, float* scales, std::uint8_t* codes) noexcept {         \
    Loops<WIDTH>::search_scale(groups, half, scales, codes);                                                          \
  }                                                                                                                   \
  ATTRIBUTES void code_by_steps(const Groups& groups, const Steps& steps, std::uint8_t* codes) noexcept {             \
    Loops<WIDTH>::code_by_steps(groups, steps, codes);                                                                \
  }                                                                                                                   \
  ATTRIBUTES void code_symmetric(std::span<const float> x, int half, float* scales, std::uint8_t* codes) noexcept {   \
    Loops<WIDTH>::code_symmetric(x, half, scales, codes);                                                             \
  }                                                                                                                   \
  ATTRIBUTES void code_affine(std::span<const float> x, int largest, ScaleMin* found, std::uint8_t* codes) noexcept { \
    Loops<WIDTH>::code_affine(x, largest, found, codes);                                                              \
  }                                                                                                                   \
  ATTRIBUTES void code_signed(std::span<const float> x, float* scales, std::uint8_t* codes) noexcept {                \
    Loops<WIDTH>::code_signed(x, scales, codes);                                                                      \
  }                                                                                                                   \
  ATTRIBUTES void round_scaled(std::span<const float> x, float inverse, std::uint8_t* codes) noexcept {               \
    Loops<WIDTH>::round_scaled(x, inverse, codes);                                                                    \
  }                                                                                                                   \
  ATTRIBUTES void code_e2m1(std::span<const float> x, float scale, std::uint8_t* codes) noexcept {                    \
    Loops<WIDTH>::code_e2m1(x, scale, codes);                                                                         \
  }

#define REGAUGE_KERNEL_TABLE(NAME)                                                                             \
  constexpr Kernels kKernels {                                                                                 \
    NAME, all_finite, search_scale_min, search_scale, code_by_steps, code_symmetric, code_affine, code_signed, \
        round_scaled, code_e2m1                                                                                \
  }

namespace four_lanes {
REGAUGE_KERNELS(, 4)
REGAUGE_KERNEL_TABLE("four lanes");
}  // namespace four_lanes

#if defined(__x86_64__)
namespace avx2 {
REGAUGE_KERNELS(__attribute__((target("avx2"))), 8)
REGAUGE_KERNEL_TABLE("avx2");
}  // namespace avx2
#endif

struct Choice {
  const Kernels* forms[3] = {};
  std::size_t count = 0;
};

Choice choose() noexcept {
  Choice choice;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) choice.forms[choice.count++] = &avx2::kKernels;
#endif
  choice.forms[choice.count++] = &four_lanes::kKernels;
  choice.forms[choice.count++] = &kPlainKernels;
  return choice;
}

}  // namespace

std::span<const Kernels* const> kernels_here() noexcept {
  static const Choice choice = choose();
  return {choice.forms, choice.count};
}

}  // namespace regauge::ggml_encode
