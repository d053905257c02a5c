#include "convert/options.h"

#include <algorithm>
#include <array>
#include <utility>

namespace regauge {
namespace {

constexpr std::array<std::pair<GptqLayout, std::string_view>, 5> kLayouts{{
    {GptqLayout::v1, "v1"},
    {GptqLayout::v2, "v2"},
    {GptqLayout::planar, "planar"},
    {GptqLayout::marlin, "marlin"},
    {GptqLayout::marlin_runtime, "marlin-runtime"},
}};

}  // namespace

std::string_view name(GptqLayout layout) {
  return std::ranges::find(kLayouts, layout, &std::pair<GptqLayout, std::string_view>::first)->second;
}

std::optional<GptqLayout> gptq_layout_from_name(std::string_view name) {
  const auto* found = std::ranges::find(kLayouts, name, &std::pair<GptqLayout, std::string_view>::second);
  return found == kLayouts.end() ? std::nullopt : std::optional(found->first);
}

}  // namespace regauge
