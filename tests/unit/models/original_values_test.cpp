#include "models/original_values.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace regauge {
namespace {

constexpr std::string_view kNorm = "model.language_model.layers.0.input_layernorm.weight";

ErrorCode code_of(std::string_view hf_name) {
  try {
    original_values_key(hf_name);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "accepted";
  return ErrorCode::internal;
}

TEST(OriginalValues, LieUnderTheHuggingFaceNameWithTheirTypeBeside) {
  EXPECT_EQ(original_values_key(kNorm), "regauge.original.model.language_model.layers.0.input_layernorm.weight");
  EXPECT_EQ(original_type_key(kNorm), "regauge.original.model.language_model.layers.0.input_layernorm.weight.type");
}

TEST(OriginalValues, KeysAreTakenApartAgain) {
  EXPECT_EQ(parse_original_key(original_values_key(kNorm)), (OriginalKey{std::string(kNorm), false}));
  EXPECT_EQ(parse_original_key(original_type_key(kNorm)), (OriginalKey{std::string(kNorm), true}));
  EXPECT_EQ(parse_original_key(original_values_key("a.A_log")), (OriginalKey{"a.A_log", false}));
}

TEST(OriginalValues, OtherKeysAreNone) {
  for (const char* key : {"", "regauge.original", "regauge.original.", "regauge.original..type", "regauge.originals.x",
                          "general.name", "regauge.original.x.type.type", "x.regauge.original.y"}) {
    EXPECT_EQ(parse_original_key(key), std::nullopt) << key;
  }
}

TEST(OriginalValues, ANameThatWouldReadAsATypeIsRefused) {
  EXPECT_EQ(code_of("x.type"), ErrorCode::invalid);
  EXPECT_EQ(code_of(""), ErrorCode::invalid);
}

}  // namespace
}  // namespace regauge
