#pragma once

#include <memory>
#include <string>

#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge {

/// Values that a GGUF file carries for the way back (models/original_values.h), as a dense tensor; nothing when there are
/// none or they are not the source of what the file stores: then somebody changed the tensor and left the key.
std::unique_ptr<const Tensor> restore_original(const Checkpoint& source, const Tensor& stored,
                                               const std::string& canonical, const View& convention);

}  // namespace regauge
