#include "convert/execute.h"

#include <algorithm>
#include <atomic>

#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "tests/support/golden.h"

// What a run that cannot finish leaves behind: nothing new, and what was there as it was.

namespace regauge {
namespace {

using testing::read_whole_file;
using testing::sample_path;
using testing::ScratchDir;

class Execute : public ::testing::Test {
 protected:
  Execute() {
    std::filesystem::copy_file(sample_path("qwen35-tiny-mtp.gguf"), source_path_);
    source_ = open_checkpoint(source_path_);
    options_.format = "gguf";
    options_.overwrite = true;
    options_.threads = 2;
    plan_ = plan_conversion(source_, nullptr, target_, options_);
  }

  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(scratch_.path()))
      found.push_back(entry.path().filename());
    std::ranges::sort(found);
    return found;
  }

  ScratchDir scratch_;
  std::filesystem::path source_path_ = scratch_ / "source.gguf";
  std::filesystem::path target_ = scratch_ / "target.gguf";
  ConvertOptions options_;
  Checkpoint source_;
  Plan plan_;
};

TEST_F(Execute, ASourceThatShrinksMeanwhileLeavesNothing) {
  std::filesystem::resize_file(source_path_, std::filesystem::file_size(source_path_) / 2);
  try {
    execute(plan_, source_, options_);
    FAIL() << "half of the data is gone";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_FALSE(error.tensor_name().empty());
    EXPECT_EQ(error.file(), source_path_.string());
  }
  EXPECT_EQ(names(), std::vector<std::string>{"source.gguf"});
}

TEST_F(Execute, AnExistingTargetSurvivesAFailure) {
  const std::string precious = "precious";
  testing::write_whole_file(target_, std::as_bytes(std::span(precious)));
  std::filesystem::resize_file(source_path_, std::filesystem::file_size(source_path_) / 2);
  EXPECT_THROW(execute(plan_, source_, options_), Error);
  EXPECT_EQ(read_whole_file(target_).size(), precious.size());
  EXPECT_EQ(names(), (std::vector<std::string>{"source.gguf", "target.gguf"}));
}

TEST_F(Execute, CancellingLeavesNothing) {
  std::atomic<bool> cancel = false;
  const auto stop_half_way = [&](const Progress& progress) {
    cancel = cancel || progress.bytes_done * 2 > progress.bytes_total;
  };
  EXPECT_THROW(execute(plan_, source_, options_, stop_half_way, &cancel), Error);
  EXPECT_EQ(names(), std::vector<std::string>{"source.gguf"});
}

TEST_F(Execute, ProgressRisesToTheWhole) {
  std::uint64_t last = 0;
  bool rising = true;
  execute(plan_, source_, options_, [&](const Progress& progress) {
    rising = rising && progress.bytes_done > last && !progress.tensor.empty();
    last = progress.bytes_done;
  });
  EXPECT_TRUE(rising);
  EXPECT_EQ(last, plan_.data_bytes());
  EXPECT_EQ(names(), (std::vector<std::string>{"source.gguf", "target.gguf"}));
}

TEST_F(Execute, AnExistingTargetIsKeptWithoutOverwrite) {
  testing::write_whole_file(target_, {});
  options_.overwrite = false;
  EXPECT_THROW(execute(plan_, source_, options_), Error);
  EXPECT_TRUE(read_whole_file(target_).empty());
}

}  // namespace
}  // namespace regauge
