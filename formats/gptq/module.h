#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/finding.h"
#include "formats/gptq/config.h"
#include "formats/layouts/gptq_words.h"
#include "ir/checkpoint.h"

namespace regauge::gptq {

/// The stored arrays of one quantized module, as indices into Checkpoint::arrays.
struct Module {
  std::string name;  ///< "model.layers.3.mlp.up_proj": the weight's name without ".weight"
  std::optional<std::size_t> qweight, qzeros, scales, g_idx;  ///< GPTQ
  std::optional<std::size_t> b, s;                            ///< serialised Marlin
  std::size_t first = 0;                                      ///< lowest index of them

  bool is_marlin() const noexcept { return b.has_value(); }
};

/// The quantized modules of a checkpoint, by first array. Throws Error{malformed} for a module that lacks an array it cannot
/// do without or has a second weight, Error{unsupported} for 2:4 sparse Marlin.
std::vector<Module> collect_modules(const Checkpoint& checkpoint);

/// Whether such arrays are among the names: for bids.
bool has_modules(const std::vector<std::string>& names);

/// What the shapes of a module's arrays say, checked against each other and against the config.
struct Geometry {
  std::int64_t n = 0;  ///< output rows
  std::int64_t k = 0;  ///< input columns
  std::int64_t groups = 0;
  std::int64_t group_size = 0;  ///< 0: all of K
  layouts::GptqLayout layout;
};

/// Bits and sizes of a GPTQ module from its tensors; `settings` only fill in what no tensor tells, and are contradicted in
/// `tally`. Throws Error{malformed} naming the array whose shape does not fit the others.
Geometry resolve_geometry(const Checkpoint& checkpoint, const Module& module, const Config& config,
                          const Settings& settings, FindingTally& tally);

/// As resolve_geometry for serialised Marlin: 4 bits, K % 16 == 0, N % 64 == 0.
Geometry resolve_marlin(const Checkpoint& checkpoint, const Module& module, const Settings& settings,
                        FindingTally& tally);

/// The logical weight: codes, scales, zeros, group index. `convention` is how the zero points are stored.
Tensor make_tensor(const Checkpoint& checkpoint, const Module& module, const Geometry& geometry,
                   const Settings& settings, layouts::ZeroConvention convention);
Tensor make_marlin_tensor(const Checkpoint& checkpoint, const Module& module, const Geometry& geometry);

}  // namespace regauge::gptq
