#include "inspect/map.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace regauge::inspect {
namespace {

constexpr std::string_view kSmall = "small";
// A matrix whose precision anyone chooses has more; depthwise convolutions have one column a tap.
constexpr std::int64_t kFewestColumns = 8;
// A block number is part of a name, and a name may say anything; no model has this many blocks.
constexpr int kMostBlocks = 4096;

bool is_matrix(const Shape& shape) {
  return shape.rank() >= 2 && shape.columns() >= kFewestColumns && shape.rows() > 1;
}

char dense_symbol(DType dtype) {
  switch (dtype) {
    case DType::bf16: return 'B';
    case DType::f16: return 'H';
    case DType::f32: return 'F';
    case DType::f64: return 'D';
    case DType::f8_e4m3:
    case DType::f8_e5m2:
    case DType::f8_e4m3fnuz:
    case DType::f8_e5m2fnuz: return 'E';
    default: return is_integer(dtype) ? 'I' : 'O';
  }
}

char symbol_of(const Encoding& encoding, const MapCell& alone) {
  if (const auto* dense = std::get_if<Dense>(&encoding)) return dense_symbol(dense->dtype);
  if (std::holds_alternative<Opaque>(encoding)) return 'O';
  const int whole = std::clamp(static_cast<int>(alone.bits()), 1, 9);
  return static_cast<char>('0' + whole);
}

/// "self_attn.q_proj.weight" -> "q_proj", "mlp.experts.gate_proj.weight" -> "experts.gate_proj", "attn_q.weight" -> "attn_q".
std::string label_of(std::string_view role) {
  if (role.ends_with(".weight")) role.remove_suffix(std::string_view(".weight").size());
  for (const std::string_view prefix : {"self_attn.", "linear_attn.", "mlp."}) {
    if (role.starts_with(prefix)) role.remove_prefix(prefix.size());
  }
  // Numbered experts of an unknown architecture are one kind: "experts.17.w1" -> "experts.*.w1".
  std::string label;
  for (std::size_t begin = 0; begin < role.size();) {
    const std::size_t dot = std::min(role.find('.', begin), role.size());
    const std::string_view step = role.substr(begin, dot - begin);
    const bool number = !step.empty() && step.find_first_not_of("0123456789") == std::string_view::npos;
    if (!label.empty()) label += '.';
    label += number ? std::string_view("*") : step;
    begin = dot + 1;
  }
  // Slices of one matrix ("patch_embed.proj.weight.0") go by the matrix.
  if (label.ends_with(".weight.*")) label.resize(label.size() - std::string_view(".weight.*").size());
  return label;
}

std::uint64_t elements_of(const Piece& piece, const Assembly& assembly) {
  const std::int64_t columns = piece.columns ? piece.columns->size() : assembly.columns;
  return static_cast<std::uint64_t>(piece.rows.size()) * static_cast<std::uint64_t>(columns);
}

/// One weight, or the part of a stored tensor that is of one kind.
struct Share {
  Component component = Component::other;
  int layer = -1;
  std::string label;
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;
};

std::vector<Share> shares_of(const Entry& entry, const Tensor& tensor) {
  const auto label = [&tensor](std::string_view role) { return map_label(role, tensor.shape); };
  if (!entry.assembly || entry.assembly->pieces.size() < 2 || entry.parameters == 0) {
    return {{entry.component, entry.layer, label(entry.role), entry.parameters, entry.bytes}};
  }
  // An expert stack holds hundreds of pieces of one or two kinds; a fused matrix one piece of each.
  std::map<std::pair<int, std::string_view>, Share> shares;
  for (const Piece& piece : entry.assembly->pieces) {
    Share& share = shares[{piece.slot.layer, piece.slot.role}];
    share.component = piece.slot.component;
    share.layer = piece.slot.layer;
    share.label = label(piece.slot.role);
    share.parameters += elements_of(piece, *entry.assembly);
  }
  std::vector<Share> list;
  for (auto& [key, share] : shares) {
    share.bytes = static_cast<std::uint64_t>(static_cast<double>(entry.bytes) * static_cast<double>(share.parameters) /
                                             static_cast<double>(entry.parameters));
    list.push_back(std::move(share));
  }
  return list;
}

void add_to(MapCell& cell, const Share& share, const Encoding& encoding) {
  const MapCell alone{' ', share.parameters, share.bytes};
  const char symbol = symbol_of(encoding, alone);
  cell.symbol = cell.symbol == ' ' || cell.symbol == symbol ? symbol : '+';
  cell.parameters += share.parameters;
  cell.bytes += share.bytes;
}

/// The rows of one tower, found by what they are.
class RowSet {
 public:
  MapRow& of(const Share& share) {
    const bool text = root(share.component) == "text" && share.component != Component::other;
    const Component component = share.label == kSmall && text ? Component::norm : share.component;
    const auto [found, fresh] = index_.try_emplace({component, share.label}, rows_.size());
    if (fresh) rows_.push_back({component, share.label, {}});
    return rows_[found->second];
  }

  /// By component, then in the order of `ranks`, then as they came; small weights last.
  std::vector<MapRow> take(const std::map<std::string, std::size_t>& ranks) {
    const auto rank = [&](const MapRow& row) {
      const auto known = ranks.find(row.label);
      return std::tuple(row.component, row.label == kSmall, known == ranks.end() ? ranks.size() : known->second);
    };
    std::ranges::stable_sort(rows_, {}, rank);
    return std::move(rows_);
  }

 private:
  std::map<std::pair<Component, std::string>, std::size_t> index_;
  std::vector<MapRow> rows_;
};

/// Labels in the order in which the architecture lists its weights; empty without one.
std::map<std::string, std::size_t> label_ranks(const Architecture* architecture) {
  std::map<std::string, std::size_t> ranks;
  if (architecture == nullptr) return ranks;
  for (const ExpectedSlot& expected : architecture->expected())
    ranks.try_emplace(label_of(expected.slot.role), ranks.size());
  return ranks;
}

}  // namespace

double MapCell::bits() const noexcept {
  return parameters == 0 ? 0 : static_cast<double>(bytes) * 8 / static_cast<double>(parameters);
}

PrecisionMap make_map(const Checkpoint& checkpoint, const Catalog& catalog, const Architecture* architecture) {
  std::map<std::string_view, RowSet> towers;
  RowSet outside;
  for (const Entry& entry : catalog.entries) {
    if (entry.component == Component::adapter) continue;
    const Tensor& tensor = checkpoint.tensors[entry.tensor];
    for (const Share& share : shares_of(entry, tensor)) {
      const bool in_block = share.layer >= 0 && share.layer < kMostBlocks;
      MapRow& row = in_block ? towers[root(share.component)].of(share) : outside.of(share);
      add_to(row.cells[in_block ? share.layer : 0], share, tensor.encoding);
    }
  }
  const auto ranks = label_ranks(architecture);
  PrecisionMap map;
  for (const std::string_view name : {"text", "mtp", "vision"}) {
    const auto found = towers.find(name);
    if (found == towers.end()) continue;
    MapTower& tower = map.towers.emplace_back(MapTower{std::string(name), 0, found->second.take(ranks)});
    for (const MapRow& row : tower.rows) tower.blocks = std::max(tower.blocks, row.cells.rbegin()->first + 1);
  }
  map.outside = outside.take(ranks);
  return map;
}

std::string map_label(std::string_view role, const Shape& shape) {
  return is_matrix(shape) ? label_of(role) : std::string(kSmall);
}

std::string describe_symbol(char symbol) {
  switch (symbol) {
    case 'B': return "BF16";
    case 'H': return "F16";
    case 'F': return "F32";
    case 'D': return "F64";
    case 'E': return "8-bit float";
    case 'I': return "integers";
    case 'O': return "other";
    case '+': return "mixed";
    case ' ': return "none";
    default: return fmt::format("{} bits", symbol);
  }
}

}  // namespace regauge::inspect
