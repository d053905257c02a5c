#include "models/permutations.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"

namespace regauge {
namespace {

AxisMap checked_order(std::span<const std::int32_t> order, std::string_view name) {
  std::vector<bool> seen(order.size());
  std::vector<AxisMap::Run> runs;
  runs.reserve(order.size());
  for (const std::int32_t column : order) {
    if (column < 0 || static_cast<std::size_t>(column) >= order.size() || seen[static_cast<std::size_t>(column)]) {
      throw Error(ErrorCode::malformed, "the recorded column order is no permutation").tensor(std::string(name));
    }
    seen[static_cast<std::size_t>(column)] = true;
    runs.push_back({column, 1});
  }
  return AxisMap(std::move(runs));
}

void read_sidecar(const Checkpoint& checkpoint, std::map<std::string, AxisMap>& orders) {
  const auto text = checkpoint.sidecar_text(kPermutationFile, kMaxRecordBytes);
  if (!text) return;
  const std::string path = checkpoint.folder->path_of(kPermutationFile);
  const Json json = parse_json(*text, path, {.max_bytes = kMaxRecordBytes, .max_values = kMaxRecordValues});
  const Json* permutations = get_object(json, "permutations");
  if (permutations == nullptr) return;
  for (const auto& [name, value] : permutations->items()) {
    if (!value.is_array()) throw Error(ErrorCode::malformed, "key '{}' is no array", name).at(path);
    std::vector<std::int32_t> order;
    order.reserve(value.size());
    for (const Json& entry : value) {
      if (!entry.is_number_integer() || entry.get<std::int64_t>() < 0 ||
          entry.get<std::int64_t>() >= static_cast<std::int64_t>(value.size())) {
        throw Error(ErrorCode::malformed, "key '{}' is no permutation", name).at(path);
      }
      order.push_back(entry.get<std::int32_t>());
    }
    orders.emplace(name, checked_order(order, name));
  }
}

}  // namespace

std::map<std::string, AxisMap> read_permutations(const Checkpoint& checkpoint) {
  std::map<std::string, AxisMap> orders;
  for (const auto& [key, value] : checkpoint.metadata.entries()) {
    if (!key.starts_with(kPermutationKey)) continue;
    const std::string name = key.substr(kPermutationKey.size());
    const auto* array = std::get_if<MetaArray>(&value);
    const auto* order = array == nullptr ? nullptr : std::get_if<std::vector<std::int32_t>>(&array->values);
    if (order == nullptr) throw Error(ErrorCode::malformed, "key '{}' is no array of i32", key).at(checkpoint.path);
    orders.emplace(name, checked_order(*order, name));
  }
  read_sidecar(checkpoint, orders);
  return orders;
}

std::string permutations_text(const std::map<std::string, std::vector<std::int32_t>>& orders,
                              const std::map<std::string, std::vector<std::int32_t>>& ranks) {
  Json json;
  json["schema"] = "regauge.directory/1";
  Json& permutations = json["permutations"] = Json::object();
  for (const auto& [name, order] : orders) permutations[name] = order;
  for (const auto& [weight, own] : ranks) json["ranks"][weight] = own;
  return json.dump() + "\n";
}

}  // namespace regauge
