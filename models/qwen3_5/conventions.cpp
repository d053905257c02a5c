#include "models/qwen3_5/conventions.h"

#include "base/error.h"

namespace regauge::qwen3_5 {

AxisMap tile_value_heads(std::int64_t key_heads, std::int64_t value_heads, std::int64_t unit, std::int64_t lead) {
  if (key_heads < 1 || value_heads % key_heads != 0) {
    throw Error(ErrorCode::internal, "{} value heads on {} key heads", value_heads, key_heads);
  }
  const std::int64_t ratio = value_heads / key_heads;
  std::vector<AxisMap::Run> runs;
  runs.reserve(static_cast<std::size_t>(value_heads) + 1);
  runs.push_back({0, lead});
  for (std::int64_t tiled = 0; tiled < value_heads; ++tiled) {
    const std::int64_t grouped = (tiled % key_heads) * ratio + tiled / key_heads;
    runs.push_back({lead + grouped * unit, unit});
  }
  return AxisMap(std::move(runs));
}

View gguf_convention(const SlotKind& kind, const Config& config) {
  View view;
  view.elementwise = kind.change;
  if (kind.value_heads == ValueHeads::none) return view;
  if (!config.sizes_known) {
    throw Error(ErrorCode::unsupported, "an adapter file does not tell the value heads of its model");
  }
  if (config.key_heads == config.value_heads) return view;
  const auto tiled = [&](std::int64_t unit, std::int64_t lead = 0) {
    return tile_value_heads(config.key_heads, config.value_heads, unit, lead);
  };
  switch (kind.value_heads) {
    case ValueHeads::none: break;
    case ValueHeads::rows: view.rows = tiled(config.value_dim); break;
    case ValueHeads::qkv_rows: view.rows = tiled(config.value_dim, 2 * config.key_width()); break;
    case ValueHeads::single_rows: view.rows = tiled(1); break;
    case ValueHeads::columns: view.columns = tiled(config.value_dim); break;
    case ValueHeads::vector: view.columns = tiled(1); break;
  }
  // One key head, or one value head each, tiles to what was there.
  if (view.rows && view.rows->is_identity(view.rows->size())) view.rows.reset();
  if (view.columns && view.columns->is_identity(view.columns->size())) view.columns.reset();
  return view;
}

View mlx_convention(const SlotKind& kind) {
  View view;
  if (kind.change == Elementwise::add_one) view.elementwise = Elementwise::add_one;
  return view;
}

}  // namespace regauge::qwen3_5
