#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "formats/format.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

/// What loaders open beside the weights; anything else may hold what it likes.
constexpr std::array<std::string_view, 14> kOpened{"added_tokens.json",
                                                   "adapter_config.json",
                                                   "chat_template.jinja",
                                                   "chat_template.json",
                                                   "config.json",
                                                   "generation_config.json",
                                                   "merges.txt",
                                                   "preprocessor_config.json",
                                                   "processor_config.json",
                                                   "special_tokens_map.json",
                                                   "tokenizer.json",
                                                   "tokenizer_config.json",
                                                   "video_preprocessor_config.json",
                                                   "vocab.json"};

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void examine_one(const Checkpoint& checkpoint, const Sidecar& sidecar, Chart& chart) {
  const auto again = [&] {
    return std::vector<Cure>{chart.rewrite("takes it from the original", {"--assets", "ORIGINAL"}),
                             Chart::no_command("or download this file again")};
  };
  const auto file = open_sidecar(checkpoint, sidecar.name);
  const auto head = file->read_range(0, std::min<std::uint64_t>(file->size(), Source::kHeadBytes));
  const auto what = what_instead(head, file->size());
  if (what) return chart.fault(what->code, what->message, chart.loaders(), again(), {}, sidecar.name);
  if (!sidecar.name.ends_with(".json")) return;
  const std::uint64_t limit = sidecar.name == "tokenizer.json" ? kMaxTokenizerBytes : kMaxConfigBytes;
  if (file->size() > limit) return;
  try {
    const auto bytes = file->read_range(0, file->size());
    parse_json(text_of(bytes), sidecar.name, {.duplicates = JsonDuplicates::keep_last});
  } catch (const Error& error) {
    if (error.code() != ErrorCode::malformed) throw;
    chart.fault("file-malformed", error.message(), chart.loaders(), again(), {}, sidecar.name);
  }
}

}  // namespace

void examine_sidecars(const Patient& patient, Findings&, Chart& chart) {
  for (const Sidecar& sidecar : patient.checkpoint.sidecars) {
    if (std::ranges::find(kOpened, sidecar.name) != kOpened.end()) examine_one(patient.checkpoint, sidecar, chart);
  }
}

}  // namespace regauge::doctor
