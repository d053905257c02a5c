#include "models/gguf_general.h"

#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/text.h"
#include "models/hf_files.h"

namespace regauge {
namespace {

constexpr std::string_view kGenerationConfig = "generation_config.json";

enum class SamplingType : std::uint8_t { text, whole, real };

struct SamplingKey {
  std::string_view key;           ///< behind "general.sampling."
  std::string_view json;          ///< in generation_config.json
  std::string_view transformers;  ///< the name that transformers gives the same thing, where that differs
  SamplingType type;
};

constexpr std::array kSampling{
    SamplingKey{"sequence", "sequence", "", SamplingType::text},
    SamplingKey{"top_k", "top_k", "", SamplingType::whole},
    SamplingKey{"top_p", "top_p", "", SamplingType::real},
    SamplingKey{"min_p", "min_p", "", SamplingType::real},
    SamplingKey{"xtc_probability", "xtc_probability", "", SamplingType::real},
    SamplingKey{"xtc_threshold", "xtc_threshold", "", SamplingType::real},
    SamplingKey{"temp", "temperature", "", SamplingType::real},
    SamplingKey{"penalty_last_n", "penalty_last_n", "", SamplingType::whole},
    SamplingKey{"penalty_repeat", "penalty_repeat", "repetition_penalty", SamplingType::real},
    SamplingKey{"mirostat", "mirostat", "", SamplingType::whole},
    SamplingKey{"mirostat_tau", "mirostat_tau", "", SamplingType::real},
    SamplingKey{"mirostat_eta", "mirostat_eta", "", SamplingType::real},
};

std::optional<MetaValue> sampling_value(const Json& config, std::string_view name, SamplingType type) {
  if (name.empty()) return std::nullopt;
  switch (type) {
    case SamplingType::text:
      if (auto text = get_string(config, name)) return MetaValue(*std::move(text));
      break;
    case SamplingType::whole:
      if (const auto whole = get_int(config, name)) return MetaValue(to_i32(*whole, name));
      break;
    case SamplingType::real:
      if (const auto real = get_double(config, name)) return MetaValue(to_f32(*real, name));
      break;
  }
  return std::nullopt;
}

/// As JSON, when the key is there. Files of other writers may hold a number of any width.
std::optional<Json> sampling_entry(const Metadata& gguf, const std::string& key, SamplingType type) {
  switch (type) {
    case SamplingType::text:
      if (auto text = gguf.get_string(key)) {
        if (!is_utf8(*text)) throw Error(ErrorCode::malformed, "not valid UTF-8").tensor(key);
        return Json(*std::move(text));
      }
      break;
    case SamplingType::whole:
      // Mirostat and the penalties' window may be negative: -1 is the whole context.
      if (const MetaValue* value = gguf.find(key); value != nullptr) {
        if (const auto* number = std::get_if<std::int32_t>(value)) return Json(*number);
        const std::uint64_t wide = *gguf.get_uint(key);
        if (wide > static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max())) {
          throw Error(ErrorCode::malformed, "{} does not fit a 32-bit key", wide).tensor(key);
        }
        return Json(wide);
      }
      break;
    case SamplingType::real:
      if (const auto real = gguf.get_float(key)) return Json(decimal(*real, key));
      break;
  }
  return std::nullopt;
}

}  // namespace

Json sampling_entries(const Metadata& gguf, Findings& findings) {
  Json entries = Json::object();
  for (const SamplingKey& one : kSampling) {
    const std::string key = "general.sampling." + std::string(one.key);
    try {
      auto value = sampling_entry(gguf, key, one.type);
      if (value) entries[std::string(one.transformers.empty() ? one.json : one.transformers)] = *std::move(value);
    } catch (const Error& error) {
      note_guess(findings, Severity::warning, "sampling-key-unreadable",
                 fmt::format("a sampling default is left out: {}", error.message()), kGenerationConfig, key);
    }
  }
  return entries;
}

std::uint32_t to_u32(std::int64_t value, std::string_view key) {
  if (value < 0 || value > std::numeric_limits<std::uint32_t>::max()) {
    throw Error(ErrorCode::malformed, "{} does not fit a 32-bit key", value).tensor(key);
  }
  return static_cast<std::uint32_t>(value);
}

std::int32_t to_i32(std::int64_t value, std::string_view key) {
  if (value < std::numeric_limits<std::int32_t>::min() || value > std::numeric_limits<std::int32_t>::max()) {
    throw Error(ErrorCode::malformed, "{} does not fit a 32-bit key", value).tensor(key);
  }
  return static_cast<std::int32_t>(value);
}

float to_f32(double value, std::string_view key) {
  if (!(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()))) {
    throw Error(ErrorCode::malformed, "{} does not fit a 32-bit key", value).tensor(key);
  }
  return static_cast<float>(value);
}

std::optional<Json> json_sidecar(const Checkpoint& source, std::string_view name, std::uint64_t max_bytes,
                                 JsonDuplicates duplicates) {
  const auto text = source.sidecar_text(name, max_bytes);
  if (!text) return std::nullopt;
  JsonLimits limits;
  limits.max_bytes = max_bytes;
  limits.duplicates = duplicates;
  Json json = parse_json(*text, name, limits);
  if (!json.is_object()) throw Error(ErrorCode::malformed, "{} where an object is expected", json.type_name()).at(name);
  return json;
}

void append_sampling_keys(const Checkpoint& source, Metadata& keys, Findings& findings) {
  try {
    const auto config = json_sidecar(source, kGenerationConfig, kMaxConfigBytes);
    if (!config) return;
    std::vector<Metadata::Entry> found;
    for (const SamplingKey& one : kSampling) {
      auto value = sampling_value(*config, one.json, one.type);
      if (!value) value = sampling_value(*config, one.transformers, one.type);
      if (value) found.emplace_back("general.sampling." + std::string(one.key), *std::move(value));
    }
    for (Metadata::Entry& entry : found) keys.set(entry.first, std::move(entry.second));
  } catch (const Error& error) {
    Finding finding;
    finding.severity = Severity::warning;
    finding.code = "generation-config-unreadable";
    finding.message = fmt::format("no sampling defaults are written: {}", error.message());
    finding.file = kGenerationConfig;
    findings.push_back(std::move(finding));
  }
}

}  // namespace regauge
