#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/text.h"
#include "inspect/render_text.h"
#include "inspect/wording.h"

namespace regauge::inspect {
namespace {

constexpr char kAbsent = '.';
constexpr char kMixed = '+';

/// A colour of the 256-colour palette: warm where few bits are left, cold where nothing was lost.
int colour_of(double bits) {
  if (bits < 2.5) return 196;
  if (bits < 3.75) return 208;
  if (bits < 4.75) return 220;
  if (bits < 5.75) return 190;
  if (bits < 7) return 118;
  if (bits < 12) return 49;
  if (bits < 24) return 39;
  return 63;
}

std::string draw(const MapCell& cell, Colour colour) {
  if (cell.symbol == ' ') return std::string(1, kAbsent);
  if (colour == Colour::none) return std::string(1, cell.symbol);
  return fmt::format("\x1b[30;48;5;{}m{}\x1b[0m", colour_of(cell.bits()), cell.symbol);
}

const MapCell& cell_at(const MapRow& row, int block) {
  static constexpr MapCell kNothing{};
  const auto found = row.cells.find(block);
  return found == row.cells.end() ? kNothing : found->second;
}

/// Two lines above the grid: tens and ones of the block numbers.
std::string ruler(int first, int last, std::size_t margin) {
  std::string tens(margin, ' ');
  std::string ones(margin, ' ');
  for (int block = first; block < last; ++block) {
    const std::string number = std::to_string(block / 10);
    // The tens stand over every tenth block and may run on over the blocks behind it.
    if (block % 10 == 0 || block == first) {
      tens.resize(margin + static_cast<std::size_t>(block - first), ' ');
      if (last > 10) tens += number;
    }
    ones += static_cast<char>('0' + block % 10);
  }
  tens.erase(tens.find_last_not_of(' ') + 1);
  return (tens.empty() ? "" : tens + "\n") + ones + "\n";
}

struct Margins {
  std::size_t component = 0;
  std::size_t label = 0;
  std::size_t all() const { return 2 + component + 2 + label + 2; }
};

std::string row_head(const MapRow& row, std::string_view previous, const Margins& margins) {
  const std::string_view component = name(row.component);
  const std::string label = cell(row.label);
  std::string head = fmt::format("  {:<{}}  {}", component == previous ? "" : component, margins.component, label);
  head.append(margins.label - display_width(label) + 2, ' ');
  return head;
}

std::string draw_tower(const MapTower& tower, const Margins& margins, const TextStyle& style) {
  std::string out = fmt::format("{}, {}\n", tower.name, counted(static_cast<std::uint64_t>(tower.blocks), "block"));
  const std::size_t room = style.width > margins.all() ? style.width - margins.all() : 0;
  int step = tower.blocks;
  if (room < static_cast<std::size_t>(step)) step = std::max(10, static_cast<int>(room) / 10 * 10);
  for (int first = 0; first < tower.blocks; first += step) {
    const int last = std::min(first + step, tower.blocks);
    if (first > 0) out += "\n";
    out += ruler(first, last, margins.all());
    std::string_view previous;
    for (const MapRow& row : tower.rows) {
      out += row_head(row, previous, margins);
      for (int block = first; block < last; ++block) out += draw(cell_at(row, block), style.colour);
      out += "\n";
      previous = name(row.component);
    }
  }
  return out;
}

void collect(const std::vector<MapRow>& rows, Margins& margins, std::set<char>& symbols) {
  for (const MapRow& row : rows) {
    margins.component = std::max(margins.component, name(row.component).size());
    margins.label = std::max(margins.label, display_width(cell(row.label)));
    for (const auto& [block, cell] : row.cells) symbols.insert(cell.symbol);
  }
}

}  // namespace

std::string render_map(const PrecisionMap& map, const TextStyle& style) {
  std::set<char> symbols;
  std::string out;
  for (const MapTower& tower : map.towers) {
    Margins margins;
    collect(tower.rows, margins, symbols);
    out += draw_tower(tower, margins, style) + "\n";
  }
  if (!map.outside.empty()) {
    Margins margins;
    collect(map.outside, margins, symbols);
    out += "outside of blocks\n";
    std::string_view previous;
    for (const MapRow& row : map.outside) {
      const MapCell& cell = cell_at(row, 0);
      out +=
          fmt::format("{}{}  {:.3f} bits\n", row_head(row, previous, margins), draw(cell, style.colour), cell.bits());
      previous = name(row.component);
    }
    out += "\n";
  }
  if (symbols.empty()) return "no tensors\n";
  std::string legend;
  for (const char symbol : symbols) {
    if (symbol == kMixed) continue;
    const bool digit = symbol >= '1' && symbol <= '9';
    legend += fmt::format("{}{}: {}", legend.empty() ? "" : ", ", symbol,
                          digit ? fmt::format("{}.x bits", symbol) : describe_symbol(symbol));
  }
  if (symbols.contains(kMixed)) legend += fmt::format("{}{}: mixed", legend.empty() ? "" : ", ", kMixed);
  return out + legend + fmt::format(", {}: none\n", kAbsent);
}

}  // namespace regauge::inspect
