#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "convert/fidelity.h"
#include "ir/dtype.h"

namespace regauge {

/// What the user permits and asks for. Loss is never assumed: everything that costs something is off by default.
struct ConvertOptions {
  std::string format;          ///< target format's name: "gguf" or "safetensors"
  std::optional<DType> dtype;  ///< type of tensors that are dense in the source; absent: as they are
  std::optional<DType>
      dense;                 ///< decode quantized tensors into this type, dense ones too unless `dtype` says otherwise
  bool allow_dense = false;  ///< where no encoding of the target holds the values, f32 may
  std::optional<Fidelity> require;  ///< the whole run must be at least this good
  bool drop_vision = false;
  bool drop_mtp = false;
  bool drop_eora = false;
  bool drop_foreign = false;  ///< tensors that the architecture does not know
  std::string model_name;     ///< general.name; empty: from the source's path
  bool overwrite = false;
  bool replace_partial = false;
  int threads = 0;  ///< 0: as many as the machine has
};

/// What a running conversion tells, from any thread but never from two at once.
struct Progress {
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;
  std::string_view tensor;
};

using ProgressFn = std::function<void(const Progress&)>;

}  // namespace regauge
