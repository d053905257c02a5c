#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "formats/safetensors/safetensors.h"
#include "tests/corrupt/safetensors_cases.h"
#include "tests/support/corrupt_case.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

using testing::Bytes;
using testing::CorruptCase;
using testing::ScratchDir;

class SafetensorsCorrupt : public ::testing::TestWithParam<CorruptCase> {};

TEST_P(SafetensorsCorrupt, GetsWhatItDeserves) {
  const ScratchDir scratch;
  testing::check_case(kSafetensorsFormat, GetParam(), scratch / "file.safetensors");
}

INSTANTIATE_TEST_SUITE_P(Header, SafetensorsCorrupt, ::testing::ValuesIn(testing::safetensors_header_cases()),
                         [](const auto& param) { return param.param.name; });
INSTANTIATE_TEST_SUITE_P(Entries, SafetensorsCorrupt, ::testing::ValuesIn(testing::safetensors_entry_cases()),
                         [](const auto& param) { return param.param.name; });

TEST(SafetensorsTruncated, AtEveryByteIsRefused) {
  const ScratchDir scratch;
  const Bytes whole = testing::small_safetensors();
  testing::write_whole_file(scratch / "file.safetensors", whole);
  EXPECT_NO_THROW(open_safetensors(probe(scratch / "file.safetensors")));
  for (std::size_t length = whole.size(); length-- > 0;) {
    std::filesystem::resize_file(scratch / "file.safetensors", length);
    EXPECT_THROW(open_safetensors(probe(scratch / "file.safetensors")), Error) << length;
  }
}

TEST(SafetensorsMutated, AnyByteSetToAnythingNastyOpensOrIsRefused) {
  const ScratchDir scratch;
  const Bytes whole = testing::small_safetensors();
  testing::write_whole_file(scratch / "file.safetensors", whole);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char value : {'\0', '\1', '"', '{', '[', ',', '9', '-', '\x7f', '\x80', '\xff'}) {
      testing::set_byte(scratch / "file.safetensors", at, static_cast<std::byte>(value));
      try {
        testing::read_everything(open_safetensors(probe(scratch / "file.safetensors")));
      } catch (const Error& error) {
        EXPECT_NE(error.code(), ErrorCode::internal) << error.what();
      }
    }
    testing::set_byte(scratch / "file.safetensors", at, whole[at]);
  }
}

// A header of the greatest length that the file has room for only as a hole: refused by its first bytes, at the cost of
// the header and nothing more.
TEST(SafetensorsMemory, LongestHeaderOfAHoleIsRefused) {
  const ScratchDir scratch;
  const Bytes start = testing::safetensors_bytes("{", 0, 100'000'000);
  testing::write_whole_file(scratch / "file.safetensors", start);
  std::filesystem::resize_file(scratch / "file.safetensors", 100'000'008);
  const testing::AllocationWatch watch;
  EXPECT_THROW(open_safetensors(probe(scratch / "file.safetensors")), Error);
  EXPECT_LE(watch.largest(), 101'000'000U);
}

TEST(SafetensorsMemory, ManySmallArraysTakeMemoryInProportion) {
  std::string header = "{";
  for (int i = 0; i < 50'000; ++i) {
    header += (i > 0 ? "," : "") + testing::safetensors_entry(std::to_string(i), "U8", "[0]", "[0,0]");
  }
  const ScratchDir scratch;
  testing::check_case(kSafetensorsFormat,
                      CorruptCase::with_finding("many", testing::safetensors_bytes(header + "}", 0), "empty-tensor"),
                      scratch / "file.safetensors");
}

}  // namespace
}  // namespace regauge
