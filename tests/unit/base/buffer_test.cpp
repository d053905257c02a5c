#include "base/buffer.h"

#include <cstdint>

#include <gtest/gtest.h>

namespace regauge {
namespace {

TEST(Buffer, BeginsAtACacheLineWhateverItsSize) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{1000}, std::size_t{1} << 20, std::size_t{9} << 20}) {
    const Buffer<float> values(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(values.data()) % 64, 0U) << bytes;
  }
}

TEST(Buffer, KeepsWhatItHoldsWhenItGrows) {
  Buffer<std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < 3'000'000; ++i) numbers.push_back(i);
  for (std::uint32_t i = 0; i < 3'000'000; ++i) ASSERT_EQ(numbers[i], i);
}

TEST(Buffer, IsRefittedWithoutNewMemoryWhereItIsLargeEnough) {
  Buffer<float> values;
  refit(values, 100);
  const float* const memory = values.data();
  refit(values, 7);
  EXPECT_EQ(values.size(), 7U);
  refit(values, 100);
  EXPECT_EQ(values.size(), 100U);
  EXPECT_EQ(values.data(), memory);
}

}  // namespace
}  // namespace regauge
