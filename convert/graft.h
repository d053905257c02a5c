#pragma once

#include <filesystem>
#include <optional>

#include "convert/adapt.h"
#include "convert/options.h"
#include "convert/plan.h"

namespace regauge {

/// What is to be put together: a base and the parts that others give it.
struct GraftRequest {
  OpenedPath base;                   ///< with its factors attached where `eora` asks for them
  std::optional<OpenedPath> mtp;     ///< a checkpoint with an MTP layer
  std::optional<OpenedPath> vision;  ///< one with a vision tower, or an mmproj file
  bool eora = false;                 ///< the base's low-rank factors come from outside
  bool replace = false;              ///< an MTP layer or a tower that the base has makes way
};

/// The plan of a checkpoint in the format of the base: its files of arrays taken over as they are (of a GGUF: its tensors
/// copied), the parts behind them in the base's names, order and conventions, and configuration, index, quantization rules or
/// keys that speak of both. A vision tower of a GGUF and its low-rank factors become files beside it. Reads what
/// plan_conversion() reads. Files of the base with arrays that make way, and all of them where a tower turns the text class into
/// the multimodal one and so its names, are written anew; the rest is taken over. Throws Error{invalid} for donors of another
/// model (family, layers, vocabulary, sizes) or without the part, and for a base that has it, unless it is to be replaced;
/// Error{unsupported} where the base's format has no place for it; Error{refused} as
/// plan_conversion(). It is carried out without a journal, for files that are linked are nobody's to write in again.
/// `options.format` is not asked; all of `request` must outlive the plan.
Plan plan_graft(const GraftRequest& request, const std::filesystem::path& target, ConvertOptions options);

}  // namespace regauge
