#include "verify/fidelity_map.h"

#include <algorithm>
#include <string_view>
#include <tuple>

#include "inspect/catalog.h"
#include "inspect/map.h"

namespace regauge {
namespace {

// A block number is part of a name, and a name may say anything; no model has this many blocks.
constexpr int kMostBlocks = 4096;

class Sorting {
 public:
  /// The cell of a weight; without a shape (one side alone has it) a name of a bias or norm says that it is small.
  FidelityCell& cell(const std::string& name, Component component, const Shape& shape) {
    const inspect::BlockName place = inspect::split_block_name(name);
    const bool in_block = place.layer >= 0 && place.layer < kMostBlocks;
    std::string label = inspect::map_label(in_block ? std::string_view(place.rest) : std::string_view(name), shape);
    if (!in_block) label = short_name(name);
    FidelityTower& tower = tower_of(in_block ? std::string(root(component)) : std::string("outside of blocks"));
    tower.numbered = in_block;
    return tower.blocks[in_block ? place.layer : 0][kind_of(tower, component, label)];
  }

  std::vector<FidelityTower> take() {
    std::vector<FidelityTower> towers;
    for (const std::string_view name : {"text", "mtp", "vision", "adapter", "outside of blocks"}) {
      const auto found = std::ranges::find(towers_, name, &FidelityTower::name);
      if (found != towers_.end()) towers.push_back(in_order(std::move(*found)));
    }
    return towers;
  }

 private:
  /// Outside of blocks every weight is a kind: "model.visual.merger.linear_fc1.weight" -> "visual.merger.linear_fc1".
  static std::string short_name(std::string_view name) {
    for (const std::string_view prefix : {"model.language_model.", "model."}) {
      if (name.starts_with(prefix)) {
        name.remove_prefix(prefix.size());
        break;
      }
    }
    if (name.ends_with(".weight")) name.remove_suffix(std::string_view(".weight").size());
    return std::string(name);
  }

  FidelityTower& tower_of(std::string name) {
    const auto found = std::ranges::find(towers_, name, &FidelityTower::name);
    if (found != towers_.end()) return *found;
    towers_.push_back({std::move(name), true, {}, {}});
    return towers_.back();
  }

  static std::size_t kind_of(FidelityTower& tower, Component component, const std::string& label) {
    const auto same = [&](const FidelityKind& kind) { return kind.component == component && kind.label == label; };
    const auto found = std::ranges::find_if(tower.kinds, same);
    if (found != tower.kinds.end()) return static_cast<std::size_t>(found - tower.kinds.begin());
    tower.kinds.push_back({component, label});
    return tower.kinds.size() - 1;
  }

  /// Kinds by component, small ones last in each.
  static FidelityTower in_order(FidelityTower tower) {
    std::vector<std::size_t> order(tower.kinds.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::stable_sort(order, {}, [&](std::size_t i) {
      const FidelityKind& kind = tower.kinds[i];
      return std::tuple(kind.component, kind.label == "small");
    });
    FidelityTower sorted{tower.name, tower.numbered, {}, {}};
    std::vector<std::size_t> place(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
      place[order[i]] = i;
      sorted.kinds.push_back(tower.kinds[order[i]]);
    }
    for (auto& [block, cells] : tower.blocks) {
      for (auto& [kind, one] : cells) sorted.blocks[block].emplace(place[kind], std::move(one));
    }
    return sorted;
  }

  std::vector<FidelityTower> towers_;
};

void note_encoding(std::string& noted, const std::string& encoding) {
  noted = noted.empty() || noted == encoding ? encoding : "mixed";
}

}  // namespace

std::vector<FidelityTower> make_fidelity_map(const Diff& diff) {
  Sorting sorting;
  for (const TensorDiff& one : diff.tensors) {
    FidelityCell& cell = sorting.cell(one.name, one.component, one.shape);
    const auto parameters = static_cast<double>(one.measured.elements);
    ++cell.tensors;
    cell.parameters += parameters;
    cell.first_bits += one.first_bits * parameters;
    cell.second_bits += one.second_bits * parameters;
    note_encoding(cell.first_encoding, one.first_encoding);
    note_encoding(cell.second_encoding, one.second_encoding);
    cell.measured.merge(one.measured, 0);
  }
  for (const Alone& one : diff.only_first) ++sorting.cell(one.name, one.component, one.shape).only_first;
  for (const Alone& one : diff.only_second) ++sorting.cell(one.name, one.component, one.shape).only_second;
  for (const Reshaped& one : diff.reshaped) ++sorting.cell(one.name, one.component, one.second).reshaped;
  return sorting.take();
}

}  // namespace regauge
