#include "convert/fold.h"

#include <algorithm>
#include <numeric>

#include "ir/decode/tensor.h"

namespace regauge {
namespace {

/// Columns sorted by group, stably; empty when groups are runs already.
std::vector<std::int32_t> order_of(const Tensor& tensor) {
  const auto* grouped = std::get_if<Grouped>(&tensor.encoding);
  if (grouped == nullptr || tensor.find(PartId::group_index) == nullptr) return {};
  const std::vector<std::int32_t> groups = read_group_index(tensor);
  std::vector<std::int32_t> order(groups.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::int32_t column) { return groups[static_cast<std::size_t>(column)]; });
  return std::ranges::is_sorted(order) ? std::vector<std::int32_t>() : order;
}

AxisMap map_of(const std::vector<std::int32_t>& order) {
  std::vector<AxisMap::Run> runs;
  runs.reserve(order.size());
  for (const std::int32_t column : order) runs.push_back({column, 1});
  return AxisMap(std::move(runs));
}

}  // namespace

FoldOrders fold_orders(const Architecture& architecture, const std::map<Slot, const Tensor*>& columns) {
  FoldOrders orders;
  for (const auto& [slot, tensor] : columns) {
    const std::vector<Slot> partners = architecture.row_partners(slot);
    if (partners.empty()) continue;
    if (!std::ranges::all_of(partners, [&](const Slot& partner) { return columns.contains(partner); })) continue;
    if (auto order = order_of(*tensor); !order.empty()) orders.emplace(slot, std::move(order));
  }
  return orders;
}

View fold_view(const Architecture& architecture, const FoldOrders& orders, const Slot& slot) {
  View view;
  if (const auto own = orders.find(slot); own != orders.end()) view.columns = map_of(own->second);
  if (const auto other = architecture.column_partner(slot)) {
    if (const auto found = orders.find(*other); found != orders.end()) view.rows = map_of(found->second);
  }
  return view;
}

}  // namespace regauge
