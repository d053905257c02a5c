#include "convert/encode/kernels.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace regauge::ggml_encode {
namespace {

std::vector<std::string> bits_of(std::span<const float> values) {
  std::vector<std::string> bits;
  for (const float value : values) bits.push_back(std::to_string(std::bit_cast<std::uint32_t>(value)));
  return bits;
}

class EveryForm : public ::testing::TestWithParam<const Kernels*> {};
INSTANTIATE_TEST_SUITE_P(Kernels, EveryForm, ::testing::ValuesIn(kernels_here().begin(), kernels_here().end()),
                         [](const auto& form) {
                           std::string name(form.param->name);
                           std::erase(name, ' ');
                           return name;
                         });

TEST_P(EveryForm, RoundsHalvesAwayFromZeroAndNothingElse) {
  for (int half = 0; half < 255; ++half) {
    const float middle = static_cast<float>(half) / 2;
    std::vector<float> x;
    for (float value : {middle, std::nextafter(middle, -1.0F), std::nextafter(middle, 999.0F)}) {
      x.push_back(value);
      x.push_back(-value);
    }
    x.resize(32);
    std::vector<std::uint8_t> codes(x.size());
    GetParam()->round_scaled(x, 1.0F, codes.data());
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(static_cast<std::int8_t>(codes[i]), static_cast<int>(std::round(x[i]))) << x[i];
    }
  }
}

TEST_P(EveryForm, FindsTheOneValueThatIsNotFinite) {
  for (std::size_t size = 1; size < 40; ++size) {
    std::vector<float> x(size, std::numeric_limits<float>::max());
    x[size / 2] = -std::numeric_limits<float>::denorm_min();
    EXPECT_TRUE(GetParam()->all_finite(x));
    for (std::size_t at = 0; at < size; ++at) {
      for (const float bad : {INFINITY, -INFINITY, NAN, -NAN, std::bit_cast<float>(0x7F800001U)}) {
        auto broken = x;
        broken[at] = bad;
        EXPECT_FALSE(GetParam()->all_finite(broken)) << bad << " at " << at << " of " << size;
      }
    }
  }
}

/// Random groups, some of them flat, zero, tiny or of one sign.
struct RandomGroups {
  std::vector<float> x;
  std::vector<float> w;
};

RandomGroups random_groups(std::mt19937& random, std::size_t size, std::size_t count) {
  RandomGroups groups;
  std::normal_distribution<float> normal;
  for (std::size_t group = 0; group < count; ++group) {
    const auto kind = random() % 8;
    const float scale = std::ldexp(1.0F, static_cast<int>(random() % 60) - 50);
    for (std::size_t i = 0; i < size; ++i) {
      float value = scale * normal(random);
      if (kind == 0) value = 0;
      if (kind == 1) value = scale;
      if (kind == 2) value = -scale;
      if (kind == 3) value = std::abs(value);
      if (kind == 4) value = -std::abs(value);
      groups.x.push_back(value);
      groups.w.push_back(random() % 4 == 0 ? 0.0F : std::abs(normal(random)));
    }
  }
  return groups;
}

TEST_P(EveryForm, SearchesAnyNumberOfGroupsAsTheReferenceDoesOneByOne) {
  std::mt19937 random(5);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same groups on every run, on purpose
  for (const std::size_t size : {16U, 32U}) {
    for (std::size_t count = 1; count <= 20; ++count) {
      for (int turn = 0; turn < 20; ++turn) {
        const RandomGroups made = random_groups(random, size, count);
        const Groups groups{made.x.data(), made.w.data(), size, count};
        const auto compare = [&](const auto& run) {
          std::vector<float> expected(2 * count);
          std::vector<float> actual(2 * count);
          std::vector<std::uint8_t> expected_codes(size * count, 1);
          std::vector<std::uint8_t> actual_codes(size * count, 2);
          run(kPlainKernels, expected, expected_codes);
          run(*GetParam(), actual, actual_codes);
          EXPECT_EQ(bits_of(expected), bits_of(actual)) << size << " x " << count;
          EXPECT_EQ(expected_codes, actual_codes) << size << " x " << count;
        };
        for (const int half : {4, 8, 16, 32}) {
          compare([&](const Kernels& kernels, std::vector<float>& out, std::vector<std::uint8_t>& codes) {
            kernels.search_scale(groups, half, out.data(), codes.data());
          });
        }
        for (const ErrorNorm norm : {ErrorNorm::square, ErrorNorm::absolute}) {
          if (norm == ErrorNorm::absolute && size == 32) continue;  // no type needs it
          for (const int largest : {3, 15, 31}) {
            compare([&](const Kernels& kernels, std::vector<float>& out, std::vector<std::uint8_t>& codes) {
              std::vector<ScaleMin> found(count);
              kernels.search_scale_min(groups, largest, {-0.9F, 0.05F, 36}, norm, found.data(), codes.data());
              for (std::size_t i = 0; i < count; ++i) {
                out[2 * i] = found[i].scale;
                out[2 * i + 1] = found[i].min;
              }
            });
          }
        }
      }
    }
  }
}

std::vector<float> sums_of(const Differences& found) {
  return {found.error, found.source, found.worst, found.worst_steps};
}

TEST_P(EveryForm, MeasuresWithTheSameSums) {
  std::mt19937 random(6);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same values on every run, on purpose
  for (const std::size_t size : {1U, 15U, 16U, 48U, 100U, 256U}) {
    for (const std::size_t width : {16U, 32U, 128U, 512U}) {
      for (int turn = 0; turn < 20; ++turn) {
        const RandomGroups wanted = random_groups(random, size, 1);
        const RandomGroups stored = random_groups(random, size, 1);
        std::vector<float> steps((size + width - 1) / width);
        for (float& step : steps) step = random() % 4 == 0 ? 0.0F : wanted.w.front() - 0.5F;
        for (const float* step : std::array<const float*, 2>{steps.data(), nullptr}) {
          const Differences expected = kPlainKernels.measure(wanted.x, stored.x, step, width);
          const Differences actual = GetParam()->measure(wanted.x, stored.x, step, width);
          EXPECT_EQ(bits_of(sums_of(expected)), bits_of(sums_of(actual)));
          EXPECT_EQ(expected.changed, actual.changed);
        }
      }
    }
  }
}

}  // namespace
}  // namespace regauge::ggml_encode
