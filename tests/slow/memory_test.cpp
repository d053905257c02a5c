#include <gtest/gtest.h>

#include "tests/support/big_checkpoint.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"

// --max-memory under a limit that the system enforces: more than it says, and an allocation fails.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REGAUGE_HAS_SHADOW_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define REGAUGE_HAS_SHADOW_MEMORY 1
#endif
#endif

namespace regauge {
namespace {

using testing::CommandLimits;
using testing::run_command;
using testing::ScratchDir;

class MemoryLimit : public ::testing::TestWithParam<std::vector<std::string>> {};

TEST_P(MemoryLimit, HoldsForAnInputSeveralTimesLarger) {
#ifdef REGAUGE_HAS_SHADOW_MEMORY
  GTEST_SKIP() << "a sanitizer's own memory is far above any limit";
#endif
  const ScratchDir scratch;
  const std::string source = scratch / "big.safetensors";
  testing::write_big_safetensors(source, 4, 4096, 5120);  // 168 MB
  std::vector<std::string> command = {REGAUGE_CLI, "convert", source,   scratch / "free.safetensors",
                                      "--dtype",   "f16",     "--quiet"};
  ASSERT_EQ(run_command(command).exit_code, 0);
  constexpr std::uint64_t kLimit = std::uint64_t{40} << 20;
  command[3] = scratch / "limited.safetensors";
  command.insert(command.end(), {"--max-memory", "40MiB"});
  command.insert(command.end(), GetParam().begin(), GetParam().end());
  const auto result = run_command(command, CommandLimits{.data_bytes = kLimit, .file_bytes = {}});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto compared = run_command({"cmp", scratch / "limited.safetensors", scratch / "free.safetensors"});
  EXPECT_EQ(compared.exit_code, 0) << compared.out;
}

INSTANTIATE_TEST_SUITE_P(Options, MemoryLimit,
                         ::testing::Values(std::vector<std::string>{"--threads", "1"},
                                           std::vector<std::string>{"--threads", "2"},
                                           std::vector<std::string>{"--threads", "7"},
                                           std::vector<std::string>{"--threads", "2", "--verify"}));

TEST(MemoryLimit, IsWhatMakesTheDifference) {
#ifdef REGAUGE_HAS_SHADOW_MEMORY
  GTEST_SKIP() << "a sanitizer's own memory is far above any limit";
#endif
  // The same without --max-memory does not fit: the limit of the test above is one.
  const ScratchDir scratch;
  const std::string source = scratch / "big.safetensors";
  testing::write_big_safetensors(source, 4, 4096, 5120);
  const auto result = run_command(
      {REGAUGE_CLI, "convert", source, scratch / "model.safetensors", "--dtype", "f16", "--threads", "7", "--verify"},
      CommandLimits{.data_bytes = std::uint64_t{40} << 20, .file_bytes = {}});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_FALSE(std::filesystem::exists(scratch / "model.safetensors"));
}

}  // namespace
}  // namespace regauge
