#pragma once

#include <map>
#include <span>
#include <string>
#include <utility>

#include "convert/adapt.h"
#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge {

/// Every slot of a model in effective form, ready to be read as f32: what all dialects map forward to, so that norms
/// stored as w or 1 + w, heads in either order and -exp(A_log) compare as what they mean. By canonical name; tensors that
/// are no slot stand under their own names, unchanged. Throws Error{malformed} when two paths hold the same slot.
std::map<std::string, Target> effective_form(std::span<const OpenedPath> paths);

}  // namespace regauge
