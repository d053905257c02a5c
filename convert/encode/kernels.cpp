#include "convert/encode/kernels.h"

namespace regauge::ggml_encode {
namespace {

struct Choice {
  const Kernels* forms[3] = {};
  std::size_t count = 0;
};

Choice choose() noexcept {
  Choice choice;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) choice.forms[choice.count++] = &kAvx2Kernels;
#endif
  choice.forms[choice.count++] = &kFourLaneKernels;
  choice.forms[choice.count++] = &kPlainKernels;
  return choice;
}

}  // namespace

std::span<const Kernels* const> kernels_here() noexcept {
  static const Choice choice = choose();
  return {choice.forms, choice.count};
}

}  // namespace regauge::ggml_encode
