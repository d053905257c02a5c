#include "convert/completeness.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "convert/refusal.h"

namespace regauge {
namespace {

void refuse_missing(const std::vector<std::string>& missing, std::string_view of_what, const Checkpoint& checkpoint) {
  if (missing.empty()) return;
  throw Error(ErrorCode::malformed, "{} weights{}: {}", missing.size(), of_what, list_names(missing))
      .at(checkpoint.path);
}

}  // namespace

void check_parts(std::span<const OpenedPath> sources, const ConvertOptions& options, const HasSlot& has) {
  for (const OpenedPath& path : sources.subspan(1)) {
    const bool tower = path.architecture->layers() == 0 && path.architecture->has_vision();
    const bool mtp = path.only == Component::mtp;
    if ((!tower || options.drop_vision) && (!mtp || options.drop_mtp)) continue;
    const Component part = tower ? Component::vision : Component::mtp;
    std::vector<std::string> missing;
    for (const ExpectedSlot& expected : path.architecture->expected()) {
      if (expected.slot.component == part && !has(expected.slot))
        missing.push_back(path.architecture->canonical_name(expected.slot));
    }
    refuse_missing(missing, tower ? " of its vision tower are missing" : " of its MTP layer are missing",
                   *path.checkpoint);
  }
}

void check_demanded(std::span<const OpenedPath> sources, const Architecture& names, int mtp_layers,
                    const HasSlot& has) {
  const std::vector<ExpectedSlot> all = names.expected();
  const auto any_of = [&](auto wanted) {
    return std::ranges::any_of(all, [&](const ExpectedSlot& one) { return wanted(one.slot) && has(one.slot); });
  };
  const bool text = any_of([](const Slot& slot) { return root(slot.component) == "text"; });
  const bool vision = any_of([](const Slot& slot) { return slot.component == Component::vision; });
  std::vector<std::string> missing;
  for (const ExpectedSlot& expected : all) {
    const Component component = expected.slot.component;
    const bool wanted = component == Component::vision ? vision : component == Component::mtp ? mtp_layers > 0 : text;
    if (wanted && !has(expected.slot)) missing.push_back(names.canonical_name(expected.slot));
  }
  refuse_missing(missing, " are missing that llama.cpp demands", *sources.front().checkpoint);
}

}  // namespace regauge
