#if defined(__x86_64__)

#define REGAUGE_LANES 8
#define REGAUGE_LANES_NAMESPACE avx2
#define REGAUGE_LANES_TARGET __attribute__((target("avx2")))
#include "convert/encode/lane_kernels.h"

namespace regauge::ggml_encode {

constinit const Kernels kAvx2Kernels = avx2::lane_kernels("avx2");

}  // namespace regauge::ggml_encode

#endif
