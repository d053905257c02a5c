#include "models/hf_files.h"

#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/error.h"

namespace regauge {

std::string render_json(const Json& json, int indent) { return json.dump(indent, ' ', false); }

double decimal(double value, std::string_view key) {
  if (!std::isfinite(value)) throw Error(ErrorCode::malformed, "'{}' is {}", key, value).tensor(key);
  if (std::abs(value) > static_cast<double>(std::numeric_limits<float>::max())) return value;
  const auto narrow = static_cast<float>(value);
  if (static_cast<double>(narrow) != value) return value;
  const std::string text = fmt::format("{}", narrow);
  double wide = value;
  std::from_chars(text.data(), text.data() + text.size(), wide);
  return wide;
}

void note_left_out_keys(const Checkpoint& gguf, const std::function<bool(std::string_view)>& is_known,
                        Findings& findings) {
  FindingTally tally;
  for (const auto& [key, value] : gguf.metadata.entries()) {
    if (key.starts_with("split.") || key.starts_with("regauge.") || is_known(key)) continue;
    tally.add(Severity::note, "key-left-out", "a key that no file of a Hugging Face directory has a place for", key);
  }
  tally.move_to(findings, gguf.files.empty() ? gguf.path : gguf.files.front().name);
}

void note_guess(Findings& findings, Severity severity, std::string_view code, std::string what, std::string_view file,
                std::string_view key) {
  Finding finding;
  finding.severity = severity;
  finding.code = code;
  finding.message = std::move(what);
  finding.file = file;
  finding.tensor = key;
  findings.push_back(std::move(finding));
}

}  // namespace regauge
