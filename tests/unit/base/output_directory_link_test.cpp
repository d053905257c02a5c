#include <filesystem>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/output_directory.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDir;

class OutputDirectoryLink : public ::testing::Test {
 protected:
  OutputDirectoryLink() { testing::write_whole_file(source(), bytes_of(kText)); }
  static constexpr std::string_view kText = "what is there";
  fs::path source() const { return scratch_ / "source.safetensors"; }
  OutputDirectory create() const { return OutputDirectory::create(scratch_ / "model", {}, ".safetensors"); }

  ScratchDir scratch_;
};

TEST_F(OutputDirectoryLink, IsTheSameFileUnderAnotherName) {
  OutputDirectory output = create();
  ASSERT_TRUE(output.link("below/model.safetensors", source()));
  output.commit();
  EXPECT_TRUE(fs::equivalent(scratch_ / "model/below/model.safetensors", source()));
  EXPECT_EQ(fs::hard_link_count(source()), 2U);
}

TEST_F(OutputDirectoryLink, FollowsASymbolicLinkToTheFileItself) {
  fs::create_symlink(source(), scratch_ / "by-name.safetensors");
  OutputDirectory output = create();
  ASSERT_TRUE(output.link("model.safetensors", scratch_ / "by-name.safetensors"));
  output.commit();
  EXPECT_FALSE(fs::is_symlink(scratch_ / "model/model.safetensors"));
}

TEST_F(OutputDirectoryLink, GivenUpLeavesTheSource) {
  {
    OutputDirectory output = create();
    ASSERT_TRUE(output.link("model.safetensors", source()));
  }
  EXPECT_FALSE(fs::exists(scratch_ / "model.partial"));
  EXPECT_EQ(text_of(testing::read_whole_file(source())), kText);
  EXPECT_EQ(fs::hard_link_count(source()), 1U);
}

TEST_F(OutputDirectoryLink, HasItsNameForItselfAndInside) {
  OutputDirectory output = create();
  ASSERT_TRUE(output.link("model.safetensors", source()));
  for (const char* name : {"model.safetensors", "../model.safetensors", "/model.safetensors"}) {
    try {
      output.link(name, source());
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid) << name;
    }
  }
}

}  // namespace
}  // namespace regauge
