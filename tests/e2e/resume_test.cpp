#include <algorithm>
#include <atomic>
#include <ostream>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/error.h"
#include "convert/execute.h"
#include "convert/journal.h"
#include "convert/memory.h"
#include "convert/plan.h"
#include "convert/render.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/golden.h"

// A run that ends early and the run that goes on with it.

namespace regauge {
namespace {

using testing::read_whole_file;
using testing::sample_path;
using testing::ScratchDir;

struct Case {
  const char* source;
  const char* target;
  const char* format;
  std::optional<DType> dtype;
};

void PrintTo(const Case& which, std::ostream* out) { *out << which.source << " to " << which.target; }

/// Conversion of a copy of a sample, with everything beside it in a folder of its own.
class Conversion {
 public:
  explicit Conversion(const Case& which) : scratch_(std::make_unique<ScratchDir>()) {
    source_path_ = *scratch_ / which.source;
    std::filesystem::copy(sample_path(which.source), source_path_, std::filesystem::copy_options::recursive);
    std::filesystem::create_directory(*scratch_ / "out");
    target_ = *scratch_ / "out" / which.target;
    options.format = which.format;
    options.dtype = which.dtype;
    options.threads = 2;
    options.journal = true;
  }

  Report run(const ProgressFn& progress = {}, const std::atomic<bool>* cancel = nullptr) {
    source_ = open_checkpoint(source_path_);
    architecture_ = recognise(source_);
    plan_ = plan_conversion(source_, architecture_.get(), target_, options);
    return execute(plan_, source_, options, progress, cancel);
  }

  Report resume() {
    options.resume = true;
    return run();
  }

  /// Runs until so much of a thousand of the data is written.
  void run_until(unsigned per_mille) {
    std::atomic<bool> cancel = false;
    const auto stop = [&](const Progress& progress) {
      cancel = cancel || progress.bytes_done * 1000 >= progress.bytes_total * per_mille;
    };
    EXPECT_THROW(run(stop, &cancel), Error);
  }

  /// The error of a run that does not get far.
  Error failure() {
    try {
      run();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "it ran through";
    return Error(ErrorCode::internal, "");
  }

  /// Every file of the output's folder, those in folders below it too.
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(target_.parent_path())) {
      if (entry.is_regular_file()) found.push_back(entry.path().lexically_relative(target_.parent_path()));
    }
    std::ranges::sort(found);
    return found;
  }

  std::vector<std::byte> bytes(const std::string& name) const { return read_whole_file(target_.parent_path() / name); }
  const std::filesystem::path& target() const { return target_; }
  const std::filesystem::path& source_path() const { return source_path_; }
  std::filesystem::path partial() const { return target_.string() + ".partial"; }
  std::filesystem::path journal() const { return Journal::path_of(target_); }
  /// The report without its time and what it says of the way there.
  std::string outcome(const Report& report) const {
    Json json = convert_to_json(source_, plan_, &report);
    for (const char* field : {"seconds", "resumed_bytes", "source", "findings"}) json.erase(field);
    for (Json& output : json["outputs"]) output.erase("path");
    return json.dump();
  }

  ConvertOptions options;

 private:
  std::unique_ptr<ScratchDir> scratch_;
  std::filesystem::path source_path_;
  std::filesystem::path target_;
  Checkpoint source_;
  std::unique_ptr<const Architecture> architecture_;
  Plan plan_;
};

constexpr Case kGptqToGguf{"qwen35-gptq-int4", "model.gguf", "gguf", std::nullopt};
// Rounds: the figures of its report are not all zeros.
constexpr Case kRounded{"qwen35-bf16-tiny", "model.safetensors", "safetensors", DType::f16};

constexpr Case kDirectory{"qwen35-gptq-int4", "mlx-model", "mlx", std::nullopt};
// Every matrix is stored as its transpose.
constexpr Case kTransposed{"qwen35-gptq-int4", "gptq-model", "gptq", std::nullopt};

class Resume : public ::testing::TestWithParam<Case> {};

TEST_P(Resume, GivesTheBytesAndTheReportOfARunWithoutABreak) {
  Conversion whole(GetParam());
  const Report expected = whole.run();
  for (const unsigned per_mille : {1U, 300U, 700U, 1000U}) {
    Conversion broken(GetParam());
    broken.run_until(per_mille);
    ASSERT_TRUE(std::filesystem::exists(broken.journal()));
    EXPECT_FALSE(std::filesystem::exists(broken.target()));
    const Report report = broken.resume();
    EXPECT_GT(report.skipped_bytes, 0U);
    EXPECT_EQ(broken.names(), whole.names());
    for (const std::string& name : whole.names()) EXPECT_EQ(broken.bytes(name), whole.bytes(name)) << name;
    EXPECT_EQ(broken.outcome(report), whole.outcome(expected));
  }
}

TEST_P(Resume, GoesOnWithOtherThreadsAndLessMemory) {
  Conversion whole(GetParam());
  whole.run();
  Conversion broken(GetParam());
  broken.run_until(500);
  broken.options.threads = 7;
  broken.options.max_memory = anonymous_bytes() + (24 << 20);
  broken.resume();
  for (const std::string& name : whole.names()) EXPECT_EQ(broken.bytes(name), whole.bytes(name)) << name;
}

INSTANTIATE_TEST_SUITE_P(Samples, Resume, ::testing::Values(kGptqToGguf, kRounded, kDirectory, kTransposed));

TEST(ResumedRun, MakesAgainWhatIsNotThereAsRecorded) {
  Conversion whole(kRounded);
  whole.run();
  Conversion broken(kRounded);
  broken.run_until(1000);
  auto partial = read_whole_file(broken.partial());
  for (std::size_t i = 0; i < partial.size(); i += 1000) partial[i] ^= std::byte{0x10};
  testing::write_whole_file(broken.partial(), partial);
  const Report report = broken.resume();
  EXPECT_LT(report.skipped_bytes, partial.size() / 2);
  EXPECT_EQ(broken.bytes("model.safetensors"), whole.bytes("model.safetensors"));
}

TEST(ResumedRun, IgnoresALineThatWasCutShort) {
  Conversion broken(kRounded);
  broken.run_until(1000);
  auto journal = read_whole_file(broken.journal());
  journal.resize(journal.size() - 5);
  testing::write_whole_file(broken.journal(), journal);
  broken.resume();
  EXPECT_EQ(broken.names(), std::vector<std::string>{"model.safetensors"});
}

TEST(ResumedRun, StartsWhereThereIsNothingToGoOnWith) {
  Conversion fresh(kRounded);
  EXPECT_EQ(fresh.resume().skipped_bytes, 0U);
  EXPECT_EQ(fresh.names(), std::vector<std::string>{"model.safetensors"});
}

TEST(ResumedRun, VerifiesBandsThatNobodyHasVerified) {
  Conversion broken(kRounded);
  broken.run_until(500);
  broken.options.verify = true;
  const Report report = broken.resume();
  EXPECT_EQ(report.skipped_bytes, 0U);
  EXPECT_TRUE(std::ranges::all_of(report.outputs.front().steps,
                                  [](const StepResult& step) { return step.checked == Checked::values; }));
}

TEST(ResumedRun, DoesNotVerifyTwice) {
  Conversion broken(kRounded);
  broken.options.verify = true;
  broken.run_until(500);
  EXPECT_GT(broken.resume().skipped_bytes, 0U);
}

TEST(ResumedRun, RefusesAChangedSourceAndSaysSo) {
  Conversion broken(kRounded);
  broken.run_until(500);
  const auto config = broken.source_path() / "config.json";
  auto text = read_whole_file(config);
  text.push_back(std::byte{'\n'});
  testing::write_whole_file(config, text);
  broken.options.resume = true;
  const Error error = broken.failure();
  EXPECT_EQ(error.code(), ErrorCode::invalid);
  EXPECT_EQ(error.file(), broken.journal().string());
  EXPECT_NE(error.message().find("source has changed"), std::string::npos) << error.message();
  EXPECT_NE(error.message().find("--force"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(broken.partial()));
}

TEST(ResumedRun, RefusesOtherOptionsAndForceStartsOver) {
  Conversion broken(kRounded);
  broken.run_until(500);
  broken.options.dtype = DType::f32;
  broken.options.resume = true;
  EXPECT_NE(broken.failure().message().find("options"), std::string::npos);
  broken.options.replace_partial = true;
  EXPECT_EQ(broken.resume().skipped_bytes, 0U);
  Conversion whole(kRounded);
  whole.options.dtype = DType::f32;
  whole.run();
  EXPECT_EQ(broken.bytes("model.safetensors"), whole.bytes("model.safetensors"));
}

TEST(ResumedRun, TellsAnOutputThatIsInPlaceFromOneThatWasThereBefore) {
  Conversion whole(kGptqToGguf);
  const Report expected = whole.run();
  // Somebody takes the model's name at the last moment: the vision tower is in place by then, the model is complete.
  Conversion broken(kGptqToGguf);
  const auto intrude = [&](const Progress& progress) {
    if (progress.bytes_done == progress.bytes_total) testing::write_whole_file(broken.target(), {});
  };
  EXPECT_THROW(broken.run(intrude), Error);
  EXPECT_TRUE(read_whole_file(broken.target()).empty());
  ASSERT_TRUE(std::filesystem::exists(broken.target().parent_path() / "mmproj-model.gguf"));
  ASSERT_TRUE(std::filesystem::exists(broken.partial()));
  std::filesystem::remove(broken.target());
  const Report report = broken.resume();
  EXPECT_EQ(report.outputs[1].file_bytes, expected.outputs[1].file_bytes);
  EXPECT_EQ(broken.outcome(report), whole.outcome(expected));
  EXPECT_EQ(broken.names(), whole.names());
  for (const std::string& name : whole.names()) EXPECT_EQ(broken.bytes(name), whole.bytes(name)) << name;
}

TEST(UnfinishedRun, IsNotPassedOverInSilence) {
  Conversion broken(kRounded);
  broken.run_until(500);
  const Error error = broken.failure();
  EXPECT_EQ(error.code(), ErrorCode::invalid);
  EXPECT_NE(error.message().find("--resume"), std::string::npos);
  EXPECT_NE(error.message().find("--force"), std::string::npos);
  EXPECT_EQ(broken.names(),
            (std::vector<std::string>{"model.safetensors.partial", "model.safetensors.partial.journal"}));
}

TEST(UnfinishedRun, WithoutAJournalIsNoStart) {
  Conversion conversion(kRounded);
  const std::string foreign = "foreign";
  testing::write_whole_file(conversion.partial(), bytes_of(foreign));
  conversion.options.resume = true;
  const Error error = conversion.failure();
  EXPECT_EQ(error.code(), ErrorCode::invalid);
  EXPECT_EQ(error.file(), conversion.partial().string());
  EXPECT_EQ(conversion.names(), std::vector<std::string>{"model.safetensors.partial"});
}

TEST(UnfinishedRun, ThatMadeNothingLeavesNothing) {
  Conversion conversion(kGptqToGguf);
  std::atomic<bool> cancel = true;
  EXPECT_THROW(conversion.run({}, &cancel), Error);
  EXPECT_TRUE(conversion.names().empty());
}

TEST(UnfinishedRun, OfADirectoryThatMadeNothingLeavesNothing) {
  Conversion conversion(kDirectory);
  std::atomic<bool> cancel = true;
  EXPECT_THROW(conversion.run({}, &cancel), Error);
  EXPECT_TRUE(std::filesystem::is_empty(conversion.target().parent_path()));
}

TEST(UnfinishedRun, ThatMayNotReplaceOneTargetTouchesNoOther) {
  Conversion conversion(kGptqToGguf);
  testing::write_whole_file(conversion.target().parent_path() / "mmproj-model.gguf", {});
  EXPECT_EQ(conversion.failure().code(), ErrorCode::invalid);
  EXPECT_EQ(conversion.names(), std::vector<std::string>{"mmproj-model.gguf"});
}

TEST(UnfinishedRun, OfAReadErrorCanBeResumedOnceTheFileIsBack) {
  Conversion whole(kRounded);
  whole.run();
  Conversion broken(kRounded);
  broken.options.threads = 1;
  const auto shard = broken.source_path() / "model.safetensors-00002-of-00002.safetensors";
  const auto bytes = read_whole_file(shard);
  const auto time = std::filesystem::last_write_time(shard);
  bool shrunk = false;
  const auto shrink = [&](const Progress& progress) {
    if (shrunk || progress.bytes_done * 4 < progress.bytes_total) return;
    std::filesystem::resize_file(shard, 1000);
    shrunk = true;
  };
  try {
    broken.run(shrink);
    ADD_FAILURE() << "the data is gone";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_EQ(error.file(), shard.string());
  }
  EXPECT_FALSE(std::filesystem::exists(broken.target()));
  testing::write_whole_file(shard, bytes);
  std::filesystem::last_write_time(shard, time);
  EXPECT_GT(broken.resume().skipped_bytes, 0U);
  EXPECT_EQ(broken.bytes("model.safetensors"), whole.bytes("model.safetensors"));
}

TEST(Threads, DoNotChangeAByte) {
  for (const Case& which : {kGptqToGguf, kRounded, kDirectory, kTransposed}) {
    Conversion one(which);
    one.options.threads = 1;
    one.run();
    for (const int threads : {2, 7}) {
      Conversion more(which);
      more.options.threads = threads;
      more.run();
      ASSERT_EQ(more.names(), one.names());
      for (const std::string& name : one.names()) EXPECT_EQ(more.bytes(name), one.bytes(name)) << name << threads;
    }
  }
}

TEST(Verify, FindsEveryKindOfOutputAsPromised) {
  for (const Case& which : {kGptqToGguf, kRounded, kDirectory, kTransposed}) {
    Conversion conversion(which);
    conversion.options.verify = true;
    const Report report = conversion.run();
    EXPECT_GT(report.checked_bands, 0U);
    for (const OutputResult& output : report.outputs) {
      EXPECT_TRUE(std::ranges::all_of(output.steps, [](const StepResult& s) { return s.checked == Checked::values; }));
    }
  }
}

TEST(Verify, FindsWhatAGgufTakesBackToADirectoryAsPromised) {
  // Norms come back from 1 + w, decay from -exp(A_log).
  Conversion conversion({"qwen35-tiny-mtp.gguf", "hf-model", "safetensors", std::nullopt});
  conversion.options.directory = true;
  conversion.options.verify = true;
  EXPECT_GT(conversion.run().checked_bands, 0U);
}

TEST(MaxMemory, OfTooLittleIsRefusedBeforeAnythingIsWritten) {
  Conversion conversion(kGptqToGguf);
  conversion.options.max_memory = 1000;
  EXPECT_EQ(conversion.failure().code(), ErrorCode::invalid);
  EXPECT_TRUE(conversion.names().empty());
}

}  // namespace
}  // namespace regauge
