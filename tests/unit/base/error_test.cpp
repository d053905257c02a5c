#include "base/error.h"

#include <string>

#include <gtest/gtest.h>

namespace regauge {
namespace {

TEST(Error, SaysFileTensorMessageAndOffsetInThatOrder) {
  const Error error = Error(ErrorCode::malformed, "{} of {}", 3, "four").offset(17).tensor("a.weight").at("model.gguf");
  EXPECT_STREQ(error.what(), "model.gguf: tensor 'a.weight': 3 of four (at byte 17)");
  EXPECT_EQ(error.code(), ErrorCode::malformed);
  EXPECT_EQ(error.message(), "3 of four");
}

TEST(Error, LeavesOutWhatIsNotKnown) {
  EXPECT_STREQ(Error(ErrorCode::invalid, "no").what(), "no");
  EXPECT_STREQ(Error(ErrorCode::invalid, "no").tensor("t").what(), "tensor 't': no");
  EXPECT_STREQ(Error(ErrorCode::invalid, "no").offset(0).what(), "no (at byte 0)");
}

TEST(Error, KeepsTheInnermostPlace) {
  Error error(ErrorCode::io, "no");
  error.at("inner").tensor("x").offset(1);
  error.at("outer").tensor("y").offset(2);
  EXPECT_EQ(error.file(), "inner");
  EXPECT_EQ(error.tensor_name(), "x");
  EXPECT_EQ(error.byte_offset(), 1U);
}

TEST(Error, ShowsHostileNamesWithoutTheirControlCharacters) {
  const std::string name = "w\x1B[2J\nregauge: all is well";
  const Error error =
      Error(ErrorCode::malformed, "key '{}' is bad\nsee above", "k\r\xFF").tensor(name).at("dir/\x07.gguf");
  EXPECT_STREQ(error.what(),
               "dir/\\x07.gguf: tensor 'w\\x1b[2J\\nregauge: all is well': key 'k\\r\\xff' is bad\nsee above");
  EXPECT_EQ(error.tensor_name(), name) << "programs get the name as it is";
}

TEST(Error, NamesEveryCode) {
  EXPECT_EQ(name(ErrorCode::io), "io");
  EXPECT_EQ(name(ErrorCode::malformed), "malformed");
  EXPECT_EQ(name(ErrorCode::unsupported), "unsupported");
  EXPECT_EQ(name(ErrorCode::invalid), "invalid");
  EXPECT_EQ(name(ErrorCode::refused), "refused");
  EXPECT_EQ(name(ErrorCode::not_found), "not_found");
  EXPECT_EQ(name(ErrorCode::internal), "internal");
}

}  // namespace
}  // namespace regauge
