#include "models/gguf_key_types.h"

#include <gtest/gtest.h>

namespace regauge {
namespace {

TEST(GgufKeyTypes, AreKnownOfTheArchitecturesOwnKeysOnly) {
  EXPECT_EQ(gguf_key_type("qwen35", "qwen35.block_count"), MetaType::u32);
  EXPECT_EQ(gguf_key_type("qwen35", "qwen35.rope.freq_base"), MetaType::f32);
  EXPECT_EQ(gguf_key_type("qwen35", "qwen35moe.block_count"), std::nullopt);
  EXPECT_EQ(gguf_key_type("qwen35", "general.name"), std::nullopt);
  EXPECT_EQ(gguf_key_type("", ".block_count"), std::nullopt);
}

TEST(GgufKeyTypes, AreGivenToNumbersThatTheyHold) {
  EXPECT_EQ(as_key_type(std::uint64_t{64}, MetaType::u32), MetaValue(std::uint32_t{64}));
  EXPECT_EQ(as_key_type(std::int32_t{64}, MetaType::u32), MetaValue(std::uint32_t{64}));
  EXPECT_EQ(as_key_type(1e7, MetaType::f32), MetaValue(1e7F));
}

TEST(GgufKeyTypes, AreNotGivenToNumbersThatTheyDoNotHold) {
  EXPECT_EQ(as_key_type(std::int32_t{-1}, MetaType::u32), std::nullopt);
  EXPECT_EQ(as_key_type(std::uint64_t{1} << 32U, MetaType::u32), std::nullopt);
  EXPECT_EQ(as_key_type(0.5F, MetaType::u32), std::nullopt);
  EXPECT_EQ(as_key_type(std::string("64"), MetaType::u32), std::nullopt);
  EXPECT_EQ(as_key_type(true, MetaType::u32), std::nullopt);
}

}  // namespace
}  // namespace regauge
