#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "convert/adapt.h"
#include "ir/slot.h"

namespace regauge {

/// Canonical column orders by slot: position i of what is written takes canonical column order[i].
using FoldOrders = std::map<Slot, std::vector<std::int32_t>>;

/// Act-order can be folded away where other weights make the columns of a matrix (Architecture::row_partners): its columns
/// may take any order as long as the partners' rows take the same. For every such matrix in `columns` whose groups are no
/// runs of columns and whose partners are all there, the order that makes them runs, columns of a group in their own
/// order. `columns` says which tensor holds a slot's matrix alone. Reads group indices.
FoldOrders fold_orders(const Architecture& architecture, const std::map<Slot, const Tensor*>& columns);

/// The change of `slot` that goes with the orders: columns where it has one of its own, rows where it is a partner; none
/// for others.
View fold_view(const Architecture& architecture, const FoldOrders& orders, const Slot& slot);

}  // namespace regauge
