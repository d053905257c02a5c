#include "inspect/completeness.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/text.h"
#include "models/mtp_draft.h"

namespace regauge::inspect {
namespace {

/// A slot and the tensor that holds it, alone or among others.
struct Held {
  Slot slot;
  std::size_t tensor = 0;
};

std::vector<Held> held_slots(const Catalog& catalog) {
  std::vector<Held> held;
  for (const Entry& entry : catalog.entries) {
    if (!entry.assembly) continue;
    for (const Piece& piece : entry.assembly->pieces) held.push_back({piece.slot, entry.tensor});
  }
  std::ranges::stable_sort(held, {}, &Held::slot);
  return held;
}

std::vector<std::size_t> repeated_tensors(const std::vector<Held>& held) {
  std::vector<std::size_t> repeated;
  for (std::size_t i = 1; i < held.size(); ++i) {
    if (held[i].slot == held[i - 1].slot && held[i].tensor != held[i - 1].tensor) repeated.push_back(held[i].tensor);
  }
  std::ranges::sort(repeated);
  repeated.erase(std::unique(repeated.begin(), repeated.end()), repeated.end());
  return repeated;
}

/// Splits the tensors that the architecture refused into unknown names and known names of the wrong shape. A tensor of
/// the second kind also takes its slots off the list of the missing: one fault, one line.
void judge_refused(const Checkpoint& checkpoint, const Architecture& architecture, const Catalog& catalog,
                   Completeness& result) {
  std::vector<std::size_t> refused;
  for (const Entry& entry : catalog.entries) {
    if (!entry.assembly && entry.component != Component::adapter) refused.push_back(entry.tensor);
  }
  std::unordered_map<std::string, Shape> places;
  std::unordered_map<std::string, std::vector<Slot>> slots;
  if (!refused.empty()) {
    for (const ExpectedSlot& expected : result.missing) {
      for (const ExpertLayout layout : {ExpertLayout::fused, ExpertLayout::per_expert}) {
        if (const auto place = architecture.place(checkpoint.dialect, expected.slot, layout)) {
          places.emplace(place->array, place->shape);
          slots[place->array].push_back(expected.slot);
        }
      }
    }
  }
  std::vector<Slot> misshapen;
  for (const std::size_t index : refused) {
    const std::string& name = checkpoint.tensors[index].name;
    const auto place = places.find(name);
    if (place == places.end()) {
      result.unknown.push_back(index);
      continue;
    }
    result.wrong_shapes.push_back({index, place->second});
    const std::vector<Slot>& held = slots[name];
    misshapen.insert(misshapen.end(), held.begin(), held.end());
  }
  std::ranges::sort(misshapen);
  std::erase_if(result.missing, [&](const ExpectedSlot& e) { return std::ranges::binary_search(misshapen, e.slot); });
}

}  // namespace

Completeness check_completeness(const Checkpoint& checkpoint, const Architecture& architecture,
                                const Catalog& catalog) {
  Completeness result;
  const std::vector<Held> held = held_slots(catalog);
  for (const Held& one : held) {
    result.has_vision = result.has_vision || one.slot.component == Component::vision;
    result.has_mtp = result.has_mtp || one.slot.component == Component::mtp;
  }
  result.is_draft = is_mtp_draft(checkpoint, architecture);
  result.repeated = repeated_tensors(held);
  for (ExpectedSlot& expected : architecture.expected()) {
    if (expected.optional && expected.slot.component == Component::vision && !result.has_vision) continue;
    if (expected.optional && expected.slot.component == Component::mtp && !result.has_mtp) continue;
    if (result.is_draft && expected.slot.component != Component::mtp && expected.slot.layer >= 0) continue;
    const auto found = std::ranges::lower_bound(held, expected.slot, {}, &Held::slot);
    if (found == held.end() || found->slot != expected.slot) result.missing.push_back(std::move(expected));
  }
  judge_refused(checkpoint, architecture, catalog, result);
  return result;
}

std::string describe_numbers(const std::vector<int>& ascending) {
  std::string text;
  for (std::size_t i = 0; i < ascending.size();) {
    std::size_t last = i;
    while (last + 1 < ascending.size() && ascending[last + 1] == ascending[last] + 1) ++last;
    if (!text.empty()) text += ", ";
    text += last > i ? fmt::format("{}-{}", ascending[i], ascending[last]) : std::to_string(ascending[i]);
    i = last + 1;
  }
  return text;
}

std::string describe_slots(const std::vector<ExpectedSlot>& slots, std::size_t most) {
  struct Group {
    std::size_t first = 0;
    std::vector<int> layers;
    std::size_t experts = 0;
  };
  std::map<std::pair<Component, std::string>, Group> groups;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const Slot& slot = slots[i].slot;
    const auto [found, fresh] = groups.try_emplace({slot.component, slot.role}, Group{i, {}, 0});
    if (slot.layer >= 0) found->second.layers.push_back(slot.layer);
    if (slot.expert >= 0) ++found->second.experts;
  }
  std::vector<std::pair<std::pair<Component, std::string>, Group>> ordered(groups.begin(), groups.end());
  std::ranges::sort(ordered, {}, [](const auto& entry) { return entry.second.first; });
  std::string text;
  for (std::size_t i = 0; i < ordered.size() && i < most; ++i) {
    auto& [key, group] = ordered[i];
    std::ranges::sort(group.layers);
    group.layers.erase(std::unique(group.layers.begin(), group.layers.end()), group.layers.end());
    if (!text.empty()) text += ", ";
    if (const std::string_view tower = root(key.first); tower != "text") text += fmt::format("{} ", tower);
    text += key.second;
    if (!group.layers.empty()) {
      text += fmt::format(" ({} {}{})", group.layers.size() == 1 ? "layer" : "layers", describe_numbers(group.layers),
                          group.experts == 0 ? "" : fmt::format(", {} experts' matrices", format_count(group.experts)));
    }
  }
  if (ordered.size() > most) text += fmt::format(" and {} more kinds", ordered.size() - most);
  return text;
}

}  // namespace regauge::inspect
