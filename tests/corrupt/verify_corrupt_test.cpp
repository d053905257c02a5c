#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "models/architecture.h"
#include "tests/corrupt/gguf_cases.h"
#include "tests/corrupt/safetensors_cases.h"
#include "tests/support/corrupt_case.h"
#include "tests/support/golden.h"
#include "verify/checksum.h"
#include "verify/faithful.h"
#include "verify/render_diff.h"
#include "verify/render_html.h"
#include "verify/round_trip.h"
#include "verify/sound.h"
#include "verify/value_digest.h"

// What a reader accepts may still be odd, and what is odd must not break whoever looks at it: every broken or odd file of
// the readers' tests goes through all of verify.

namespace regauge {
namespace {

using testing::CorruptCase;
using testing::ScratchDir;

/// An answer or an error that calls itself nobody's bug.
void survives(const char* what, const std::function<void()>& look) {
  try {
    look();
  } catch (const Error& error) {
    EXPECT_NE(error.code(), ErrorCode::internal) << what << ": " << error.what();
  }
}

void look_at_everything(const Checkpoint& checkpoint, const Checkpoint& other) {
  const auto architecture = recognise(checkpoint);
  const std::vector<OpenedPath> path{{&checkpoint, architecture.get()}};
  const std::vector<OpenedPath> reference{{&other, nullptr}};
  survives("soundness", [&] { examine_soundness(checkpoint, 2); });
  survives("checksum", [&] { render_lines(checksum(checkpoint, {{DigestAlgorithm::xxh3_128}, true, 2})); });
  survives("value digests", [&] { value_digests(path, 2); });
  survives("tensor digests", [&] { tensor_value_digests(path.front(), 2); });
  survives("diff with itself", [&] {
    const Diff result = diff(path, path, {.only = "", .keys = true, .decode_all = true, .threads = 2});
    render_diff(result, DiffDetail::all);
    diff_to_json(result, "a", "b").dump();
    for (const TensorDiff& one : result.tensors) EXPECT_LE(one.likeness, Likeness::values) << one.name;
  });
  for (const bool as_reference : {false, true}) {
    survives("diff with another", [&] {
      const DiffOptions options{.only = "", .keys = true, .decode_all = true, .threads = 2};
      const Faithfulness result =
          judge(as_reference ? diff(reference, path, options) : diff(path, reference, options), {});
      render_faithfulness(result, 10);
      render_faithfulness_html(result, "a", "b");
      faithfulness_to_json(result, "a", "b").dump();
    });
  }
  survives("round trip", [&] {
    const std::vector<std::string> way{"a", "b"};
    const RoundTrip result = compare_round_trip(path, path);
    render_round_trip(result, "a", way, 10);
    round_trip_to_json(result, "a", way).dump();
  });
}

std::size_t look_at_all(const std::vector<CorruptCase>& cases, const std::filesystem::path& path) {
  const Checkpoint other = open_checkpoint(testing::sample_path("qwen35-tiny-mtp.gguf"));
  std::size_t opened = 0;
  for (const CorruptCase& corrupt : cases) {
    SCOPED_TRACE(corrupt.name);
    testing::write_whole_file(path, corrupt.bytes);
    survives("open", [&] {
      const Checkpoint checkpoint = open_checkpoint(path);
      ++opened;
      look_at_everything(checkpoint, other);
    });
  }
  return opened;
}

TEST(VerifyOfHostileFiles, EndsInAnAnswerForEveryGguf) {
  const ScratchDir scratch;
  std::size_t opened = 0;
  for (const auto& cases : {testing::gguf_header_cases(), testing::gguf_key_cases(), testing::gguf_tensor_cases()})
    opened += look_at_all(cases, scratch / "file.gguf");
  EXPECT_GT(opened, 20U);
}

TEST(VerifyOfHostileFiles, EndsInAnAnswerForEverySafetensors) {
  const ScratchDir scratch;
  std::size_t opened = 0;
  for (const auto& cases : {testing::safetensors_header_cases(), testing::safetensors_entry_cases()})
    opened += look_at_all(cases, scratch / "file.safetensors");
  EXPECT_GT(opened, 5U);
}

}  // namespace
}  // namespace regauge
