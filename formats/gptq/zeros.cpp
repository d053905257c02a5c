#include "formats/gptq/zeros.h"

#include <algorithm>
#include <filesystem>
#include <span>

#include <fmt/format.h>

namespace regauge::gptq {
namespace {

using layouts::GptqLayout;
using layouts::GptqPacking;
using layouts::ZeroConvention;

// Enough of a row to be sure, and no more than a page, however wide the module.
constexpr std::int64_t kSampledZeros = 4096;

bool is_v1(ZeroConvention convention) { return convention != ZeroConvention::v2; }

std::string_view label_of(bool v1) { return v1 ? "v1 (zero points minus one)" : "v2 (zero points as they are)"; }

bool all_midpoint(GptqLayout layout, ZeroConvention convention, std::span<const std::byte> words) {
  std::vector<std::uint8_t> zeros(words.size() * 8 / static_cast<std::size_t>(layout.bits));
  layouts::unpack_gptq_zeros(layout, convention, words, zeros);
  const auto middle = static_cast<std::uint8_t>(1U << static_cast<unsigned>(layout.bits - 1));
  return std::ranges::all_of(zeros, [middle](std::uint8_t zero) { return zero == middle; });
}

/// What the samples of one width say: nothing read, no convention fits, or the one that does.
struct Evidence {
  bool sampled = false;
  std::optional<ZeroConvention> convention;
};

std::vector<std::byte> first_words(const Checkpoint& checkpoint, const ZerosOf& zeros) {
  const StoredArray& array = checkpoint.arrays[*zeros.module->qzeros];
  // Both are multiples of 32 zero points, so whole words at every width.
  const std::int64_t count = std::min(zeros.geometry.n, kSampledZeros);
  return checkpoint.files[array.file].file->read_range(
      array.offset, static_cast<std::uint64_t>(count * zeros.geometry.layout.bits / 8));
}

Evidence look(const Checkpoint& checkpoint, const std::vector<ZerosOf>& modules, int bits) {
  std::vector<const ZerosOf*> candidates;
  for (const ZerosOf& zeros : modules) {
    if (zeros.sym && zeros.geometry.layout.bits == bits) candidates.push_back(&zeros);
  }
  Evidence evidence;
  const std::size_t samples = std::min(candidates.size(), kSampledModules);
  for (std::size_t i = 0; i < samples; ++i) {
    // Spread over the model, the first and the last module included.
    const ZerosOf& zeros = *candidates[samples == 1 ? 0 : i * (candidates.size() - 1) / (samples - 1)];
    const auto convention = convention_by_evidence(zeros.geometry.layout, first_words(checkpoint, zeros));
    if (!convention || (evidence.sampled && convention != evidence.convention)) return {true, std::nullopt};
    evidence = {true, convention};
  }
  return evidence;
}

/// How a v1 file of this width was written, where its data does not tell.
ZeroConvention v1_of(int bits, const Config& config) {
  // GPTQModel wrote 3 bits by fields from 7.0.0 on (PR 2763).
  const bool old = config.gptqmodel && *config.gptqmodel < std::pair(7, 0);
  return bits == 3 && old && config.format == WordFormat::v1 ? ZeroConvention::v1_legacy3 : ZeroConvention::v1;
}

}  // namespace

std::optional<ZeroConvention> convention_by_evidence(GptqLayout layout, std::span<const std::byte> words) {
  if (layout.packing == GptqPacking::planar) {
    return all_midpoint(layout, ZeroConvention::v2, words) ? std::optional(ZeroConvention::v2) : std::nullopt;
  }
  for (const auto convention : {ZeroConvention::v1, ZeroConvention::v2}) {
    if (all_midpoint(layout, convention, words)) return convention;
  }
  if (layout.bits == 3 && all_midpoint(layout, ZeroConvention::v1_legacy3, words)) return ZeroConvention::v1_legacy3;
  return std::nullopt;
}

ZeroConventions choose_conventions(const Checkpoint& checkpoint, const std::vector<ZerosOf>& modules,
                                   const Config& config, ZerosLabel label, Findings& findings) {
  ZeroConventions chosen;
  if (config.format == WordFormat::planar) {
    // Never stored with an offset. Source: ModelCloud/GPTQModel docs/gptq_planar.md.
    for (int bits = 2; bits <= 8; ++bits) chosen.set(bits, ZeroConvention::v2);
    return chosen;
  }
  std::array<Evidence, 9> seen{};
  bool seen_v1 = false;
  bool seen_v2 = false;
  for (int bits = 2; bits <= 8; ++bits) {
    Evidence& evidence = seen.at(static_cast<std::size_t>(bits));
    evidence = look(checkpoint, modules, bits);
    if (evidence.convention) (is_v1(*evidence.convention) ? seen_v1 : seen_v2) = true;
  }
  const bool conclusive = seen_v1 != seen_v2;
  const bool disagree = seen_v1 && seen_v2;

  const bool v1_by_label = config.format == WordFormat::v1;
  const bool v1_by_data = conclusive ? seen_v1 : v1_by_label;
  const bool v1 = label == ZerosLabel::automatic ? v1_by_data : label == ZerosLabel::v1;
  std::string unclear;
  for (int bits = 2; bits <= 8; ++bits) {
    const Evidence& evidence = seen.at(static_cast<std::size_t>(bits));
    const bool believed = evidence.convention && (label == ZerosLabel::automatic || is_v1(*evidence.convention) == v1);
    chosen.set(bits, believed ? *evidence.convention : v1 ? v1_of(bits, config) : ZeroConvention::v2);
    if (evidence.sampled && !evidence.convention) unclear += fmt::format("{}{}", unclear.empty() ? "" : ", ", bits);
  }

  const std::string file = std::filesystem::path(config.path).filename().native();
  if (v1_by_data != v1_by_label && label == ZerosLabel::automatic) {
    findings.push_back({Severity::warning,
                        "gptq-zeros-mislabelled",
                        fmt::format("the format '{}' means {}, but the data are {}: read as the data say",
                                    name(config.format), label_of(v1_by_label), label_of(v1_by_data)),
                        file,
                        {}});
  }
  if (disagree && label == ZerosLabel::automatic) {
    findings.push_back(
        {Severity::warning,
         "gptq-zeros-mixed",
         "zero points of some widths are stored minus one and those of others as they are: each read as its data say",
         file,
         {}});
  }
  // Source: ModelCloud/GPTQModel gptqmodel/models/loader.py, which refuses these: older packers subtracted per value before
  // packing, so that a zero point of 0 ran over its neighbours.
  const bool asymmetric = std::ranges::any_of(modules, [](const ZerosOf& zeros) { return !zeros.sym; });
  const bool careful_writer = config.by_regauge || (config.gptqmodel && *config.gptqmodel >= std::pair(0, 9));
  if (asymmetric && v1 && config.section && !careful_writer) {
    findings.push_back(
        {Severity::warning,
         "gptq-zeros-writer",
         "asymmetric zero points in the v1 convention by an unknown or old writer may have run over each other",
         file,
         {}});
  }
  if (!unclear.empty()) {
    findings.push_back(
        {Severity::warning,
         "gptq-zeros-unclear",
         fmt::format(
             "the model is symmetric, but stored zero points of {} bits are the middle under no convention: read as {}",
             unclear, label_of(v1)),
         file,
         {}});
  }
  return chosen;
}

}  // namespace regauge::gptq
