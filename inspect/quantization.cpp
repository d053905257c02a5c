#include "inspect/quantization.h"

#include <cctype>

#include <fmt/format.h>

namespace regauge::inspect {
namespace {

const Json* value_of(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string text_of(const Json& object, std::string_view key) {
  const Json* value = value_of(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

std::optional<std::int64_t> integer_of(const Json& object, std::string_view key) {
  const Json* value = value_of(object, key);
  if (value == nullptr || !value->is_number_integer()) return std::nullopt;
  return value->get<std::int64_t>();
}

std::optional<bool> boolean_of(const Json& object, std::string_view key) {
  const Json* value = value_of(object, key);
  if (value == nullptr || !value->is_boolean()) return std::nullopt;
  return value->get<bool>();
}

std::string quantizer_of(const Json& section) {
  const Json* meta = value_of(section, "meta");
  const Json* quantizer = meta == nullptr ? nullptr : value_of(*meta, "quantizer");
  if (quantizer == nullptr) return {};
  if (quantizer->is_string()) return quantizer->get<std::string>();
  std::string all;
  if (quantizer->is_array()) {
    for (const Json& one : *quantizer) {
      if (one.is_string()) all += (all.empty() ? "" : ", ") + one.get<std::string>();
    }
  }
  return all;
}

std::size_t overrides_of(const Json& section, std::string_view format) {
  if (const Json* dynamic = value_of(section, "dynamic")) return dynamic->is_object() ? dynamic->size() : 0;
  std::size_t count = 0;
  if (format == "mlx" && section.is_object()) {
    // MLX lists modules beside the global keys: an object has parameters of its own, a boolean turns a module on or off.
    for (const auto& item : section.items()) {
      count +=
          item.value().is_object() || (item.value().is_boolean() && item.key().find('.') != std::string::npos) ? 1 : 0;
    }
  }
  return count;
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return text;
}

std::string plural(std::size_t count, std::string_view word) {
  return fmt::format("{} {}{}", count, word, count == 1 ? "" : "s");
}

}  // namespace

QuantizationClaims read_claims(const Checkpoint& checkpoint) {
  QuantizationClaims claims;
  if (!checkpoint.quantization) return claims;
  const Json& section = *checkpoint.quantization;
  claims.bits = integer_of(section, "bits");
  claims.group_size = integer_of(section, "group_size");
  claims.sym = boolean_of(section, "sym");
  claims.desc_act = boolean_of(section, "desc_act");
  claims.method = text_of(section, "quant_method");
  if (claims.method.empty()) claims.method = text_of(section, "method");
  claims.checkpoint_format = text_of(section, "checkpoint_format");
  if (claims.checkpoint_format.empty()) claims.checkpoint_format = text_of(section, "format");
  claims.mode = text_of(section, "mode");
  claims.quantizer = quantizer_of(section);
  claims.overrides = overrides_of(section, checkpoint.array_format());
  return claims;
}

std::string describe(const Checkpoint& checkpoint) {
  if (!checkpoint.quantization) return {};
  const QuantizationClaims claims = read_claims(checkpoint);
  std::string line = checkpoint.array_format() == "mlx" ? "MLX"
                     : claims.method.empty()            ? upper(checkpoint.array_format())
                                                        : upper(claims.method);
  if (!claims.mode.empty()) line += " " + claims.mode;
  if (claims.bits) line += fmt::format(" {}-bit", *claims.bits);
  if (claims.group_size)
    line += *claims.group_size < 0 ? ", one group a row" : fmt::format(", group {}", *claims.group_size);
  if (claims.sym) line += *claims.sym ? ", symmetric" : ", asymmetric";
  if (claims.desc_act) line += *claims.desc_act ? ", act-order" : ", no act-order";
  if (claims.overrides != 0) {
    line += ", " + plural(claims.overrides, checkpoint.array_format() == "mlx" ? "module override" : "override rule");
  }
  if (!claims.quantizer.empty()) line += "; made by " + claims.quantizer;
  return line;
}

}  // namespace regauge::inspect
