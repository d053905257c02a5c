#include "models/original_values.h"

#include "base/error.h"
#include "base/text.h"

namespace regauge {
namespace {

constexpr std::string_view kPrefix = "regauge.original.";
constexpr std::string_view kTypeSuffix = ".type";

}  // namespace

std::string original_values_key(std::string_view hf_name) {
  if (hf_name.empty() || hf_name.ends_with(kTypeSuffix)) {
    throw Error(ErrorCode::invalid, "a weight called '{}' has no key for its original values",
                printable(excerpt(hf_name)));
  }
  return std::string(kPrefix) + std::string(hf_name);
}

std::string original_type_key(std::string_view hf_name) {
  return original_values_key(hf_name) + std::string(kTypeSuffix);
}

std::optional<OriginalKey> parse_original_key(std::string_view key) {
  if (!key.starts_with(kPrefix)) return std::nullopt;
  OriginalKey parsed;
  std::string_view name = key.substr(kPrefix.size());
  if (name.ends_with(kTypeSuffix)) {
    parsed.is_type = true;
    name.remove_suffix(kTypeSuffix.size());
  }
  // "x.type.type" can be no key of ours: the weight would be called "x.type".
  if (name.empty() || name.ends_with(kTypeSuffix)) return std::nullopt;
  parsed.name = std::string(name);
  return parsed;
}

}  // namespace regauge
