#include "convert/encode/lane_kernels.h"

namespace regauge::ggml_encode {

constinit const Kernels kFourLaneKernels = four_lanes::lane_kernels("four lanes");

}  // namespace regauge::ggml_encode
