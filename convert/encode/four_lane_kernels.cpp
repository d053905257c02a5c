#include "convert/encode/lane_loops.h"

namespace regauge::ggml_encode {

constinit const Kernels kFourLaneKernels = four_lanes::Loops::table("four lanes");

}  // namespace regauge::ggml_encode
