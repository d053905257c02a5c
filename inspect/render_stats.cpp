#include <algorithm>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "base/render.h"
#include "base/text.h"
#include "inspect/render_text.h"

namespace regauge::inspect {
namespace {

using Align = TextTable::Align;

constexpr std::size_t kBarWidth = 50;
constexpr std::size_t kMostCodeLines = 64;

std::string bar(std::uint64_t count, std::uint64_t most) {
  if (count == 0 || most == 0) return {};
  // Whole hashes, rounded up: what occurs at all is seen.
  const auto length =
      static_cast<std::size_t>(static_cast<double>(count) / static_cast<double>(most) * kBarWidth + 0.999);
  return std::string(std::clamp<std::size_t>(length, 1, kBarWidth), '#');
}

std::string value_bars(const TensorStats& stats) {
  const std::uint64_t most = std::ranges::max(stats.histogram);
  TextTable table({Align::right, Align::right, Align::left});
  const double width = (stats.max - stats.min) / static_cast<double>(TensorStats::kBins);
  const std::size_t bins = width > 0 ? TensorStats::kBins : 1;
  for (std::size_t bin = 0; bin < bins; ++bin) {
    table.add({fmt::format("{:.6g}", stats.min + width * static_cast<double>(bin)), format_count(stats.histogram[bin]),
               bar(stats.histogram[bin], most)});
  }
  return table.text(2);
}

std::string code_bars(std::span<const std::uint64_t> codes) {
  const std::size_t fold = (codes.size() + kMostCodeLines - 1) / kMostCodeLines;
  std::vector<std::uint64_t> folded((codes.size() + fold - 1) / fold);
  for (std::size_t code = 0; code < codes.size(); ++code) folded[code / fold] += codes[code];
  const std::uint64_t most = std::ranges::max(folded);
  TextTable table({Align::right, Align::right, Align::left});
  for (std::size_t line = 0; line < folded.size(); ++line) {
    const std::size_t first = line * fold;
    table.add(
        {fold == 1 ? std::to_string(first) : fmt::format("{}-{}", first, std::min(first + fold, codes.size()) - 1),
         format_count(folded[line]), bar(folded[line], most)});
  }
  return table.text(2);
}

}  // namespace

std::string render_stats(const Checkpoint& checkpoint, const TensorStats& stats) {
  const Tensor& tensor = checkpoint.tensors[stats.tensor];
  std::string out =
      fmt::format("{}\n  {} {}{}\n", printable(tensor.name), to_string(tensor.shape), to_string(tensor.encoding),
                  tensor.has_low_rank() ? ", without its low-rank factors" : "");
  TextTable numbers({Align::left, Align::left});
  numbers.add({"values", format_count(stats.count)});
  if (stats.finite != 0) {
    numbers.add({"min", fmt::format("{:.9g}", stats.min)});
    numbers.add({"max", fmt::format("{:.9g}", stats.max)});
    numbers.add({"mean", fmt::format("{:.9g}", stats.mean)});
    numbers.add({"deviation", fmt::format("{:.9g}", stats.deviation)});
  }
  numbers.add({"zeros", stats.negative_zeros == 0 ? format_count(stats.zeros)
                                                  : fmt::format("{}, {} of them negative", format_count(stats.zeros),
                                                                format_count(stats.negative_zeros))});
  numbers.add({"NaN", format_count(stats.nan)});
  numbers.add({"infinite", format_count(stats.infinite)});
  out += numbers.text(2);
  if (stats.finite != 0) out += "\n  values, by the lower end of each interval\n" + value_bars(stats);
  if (!stats.codes.empty()) {
    out += "\n  codes\n" + code_bars(stats.codes);
  } else if (!std::holds_alternative<Dense>(tensor.encoding)) {
    out += fmt::format("\n  no histogram of codes: {}\n", stats.codes_missing);
  }
  return out;
}

}  // namespace regauge::inspect
