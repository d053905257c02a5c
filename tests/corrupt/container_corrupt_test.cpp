#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/zstd.h"
#include "formats/container/container.h"
#include "formats/container/package.h"
#include "tests/support/container_bytes.h"
#include "tests/support/corrupt_case.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

using testing::Bytes;
using testing::ContainerBytes;
using testing::CorruptCase;
using testing::ScratchDir;
using testing::small_container;

/// A directory of one file with F32 "z" [600], all zeros, compressed in chunks of 1024 bytes: skeleton raw, three frames.
ContainerBytes compressed_container() {
  Bytes file = testing::safetensors_bytes("{" + testing::safetensors_entry("z", "F32", "[600]", "[0,2400]") + "}", 0);
  const std::size_t header = file.size();
  ContainerBytes out;
  out.files = {R"({"name":"model.safetensors","bytes":)" + std::to_string(header + 2400) + "}"};
  out.arrays = {R"({"name":"z","element":"F32","shape":[600],"file":0,"offset":)" + std::to_string(header) +
                R"(,"bytes":2400})"};
  out.codec = "zstd";
  out.raw = {file, Bytes(2400)};
  out.chunk_stored = {static_cast<std::uint32_t>(header)};
  out.chunk_coding = {0};
  out.chunk_digests = {hex(Xxh3_128::of(file))};
  Bytes stored;
  for (const std::size_t size : {1024U, 1024U, 352U}) {
    const Bytes frame = zstd_compress(Bytes(size), 3);
    stored.insert(stored.end(), frame.begin(), frame.end());
    out.chunk_stored.push_back(static_cast<std::uint32_t>(frame.size()));
    out.chunk_coding.push_back(1);
    out.chunk_digests.push_back(hex(Xxh3_128::of(Bytes(size))));
  }
  out.parts = {{"f0.skeleton", file}, {"f0.a0", stored}};
  return out;
}

/// Puts another frame in the place of the first one of "z".
ContainerBytes with_first_frame(const Bytes& frame) {
  ContainerBytes out = compressed_container();
  Bytes& stored = out.parts[1].bytes;
  stored.erase(stored.begin(), stored.begin() + out.chunk_stored[1]);
  stored.insert(stored.begin(), frame.begin(), frame.end());
  out.chunk_stored[1] = static_cast<std::uint32_t>(frame.size());
  return out;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

/// A description that lies: what is changed, and the key at whose place the error must be.
struct Lie {
  std::string name;
  std::string key;
  std::function<void(ContainerBytes&)> change;
};

std::vector<Lie> lies() {
  std::vector<Lie> lies;
  const auto sidecar_name = [&](std::string name, const std::string& path) {
    lies.push_back({std::move(name), "sidecars",
                    [path](ContainerBytes& c) { c.sidecars[0] = R"({"name":")" + path + R"(","bytes":5})"; }});
  };
  sidecar_name("PathThatClimbs", "../x");
  sidecar_name("PathThatClimbsInside", "a/../../x");
  sidecar_name("PathThatIsAbsolute", "/tmp/x");
  sidecar_name("PathWithABackslash", "a\\\\b");
  sidecar_name("PathWithADot", "./a");
  sidecar_name("PathTwiceSlashed", "a//b");
  sidecar_name("PathOfAFolder", "a/");
  sidecar_name("PathThatIsADot", ".");
  sidecar_name("PathThatIsEmpty", "");
  sidecar_name("PathWithAControlCharacter", "a\\u001b[2J");
  sidecar_name("PathThatIsThereTwice", "model.safetensors");
  sidecar_name("PathInsideAFile", "model.safetensors/x");

  const auto array = [&](std::string name, std::size_t index, const std::string& from, const std::string& to) {
    lies.push_back(
        {std::move(name), "arrays", [=](ContainerBytes& c) { c.arrays[index] = replaced(c.arrays[index], from, to); }});
  };
  array("ArrayThatOverlaps", 0, R"("bytes":24)", R"("bytes":25)");
  array("ArrayBeyondItsFile", 1, R"("bytes":4)", R"("bytes":5)");
  array("ArrayWhoseEndWraps", 1, R"("bytes":4)", R"("bytes":9223372036854775807)");
  array("ArrayOfNegativeSize", 1, R"("bytes":4)", R"("bytes":-4)");
  array("ArrayOfHalfASize", 1, R"("bytes":4)", R"("bytes":4.5)");
  array("ArrayOfHugeSize", 1, R"("bytes":4)", R"("bytes":18446744073709551615)");
  array("ArrayWithoutSize", 1, R"(,"bytes":4)", "");
  array("ArrayOfNoFile", 1, R"("file":0)", R"("file":1)");
  array("ArrayWhoseNameIsANumber", 1, R"("name":"b")", R"("name":7)");
  array("ArrayWithANegativeDimension", 1, "[4]", "[-4]");
  array("ArrayWhoseElementsWrap", 1, "[4]", "[4611686018427387904,4]");
  array("ArrayThatIsNoJson", 1, "{", "[");
  lies.push_back({"ArraysOutOfOrder", "arrays", [](ContainerBytes& c) { std::swap(c.arrays[0], c.arrays[1]); }});
  lies.push_back({"ArrayOfTooManyDimensions", "arrays", [](ContainerBytes& c) {
                    std::string ones = "1";
                    for (int i = 0; i < 100; ++i) ones += ",1";
                    c.arrays[1] = replaced(c.arrays[1], "[4]", "[" + ones + "]");
                  }});
  lies.push_back({"JsonThatIsDeep", "arrays",
                  [](ContainerBytes& c) { c.arrays[1] = std::string(100'000, '[') + std::string(100'000, ']'); }});
  lies.push_back({"TensorOfNoArray", "tensors", [](ContainerBytes& c) {
                    c.tensors[0] = replaced(c.tensors[0], R"("arrays":[0])", R"("arrays":[2])");
                  }});
  lies.push_back({"TensorWithAnOddDigest", "tensors", [](ContainerBytes& c) {
                    c.tensors[0] = replaced(c.tensors[0], R"("arrays")", R"("values":"XYZ","arrays")");
                  }});
  lies.push_back({"FileWithoutSize", "files", [](ContainerBytes& c) { c.files[0] = R"({"name":"a.safetensors"})"; }});
  lies.push_back({"FileThatIsAList", "files", [](ContainerBytes& c) { c.files[0] = "[]"; }});
  lies.push_back({"EntryThatIsNotThere", "entry", [](ContainerBytes& c) { c.entry = "other.safetensors"; }});
  lies.push_back({"EntryThatIsASidecar", "entry", [](ContainerBytes& c) { c.entry = "notes/readme.txt"; }});
  lies.push_back({"TooFewTensors", "version", [](ContainerBytes& c) { c.parts.pop_back(); }});
  lies.push_back({"TooManyTensors", "version", [](ContainerBytes& c) { c.parts.push_back({"f0.a2", Bytes(4)}); }});
  lies.push_back({"TooFewDigests", "digests", [](ContainerBytes& c) { c.digests = {std::string(32, '0')}; }});
  lies.push_back({"DigestsThatAreNone", "digests", [](ContainerBytes& c) {
                    c.digests.assign(4, std::string(32, 'G'));
                    c.root = std::string(32, '0');
                  }});
  lies.push_back({"RootOfSomethingElse", "root", [](ContainerBytes& c) { c.root = std::string(32, '0'); }});
  lies.push_back({"RootThatIsNoDigest", "root", [](ContainerBytes& c) { c.root = "yes"; }});
  lies.push_back({"VersionZero", "", [](ContainerBytes& c) { c.version = 0; }});
  lies.push_back({"VersionOfAnotherType", "version", [](ContainerBytes& c) { c.version_type = 10; }});
  lies.push_back({"ContainerInAContainer", "", [](ContainerBytes& c) { c.format = "container"; }});
  return lies;
}

std::vector<CorruptCase> description_cases() {
  std::vector<CorruptCase> cases;
  for (const Lie& lie : lies()) {
    ContainerBytes container = small_container();
    lie.change(container);
    Bytes bytes = container.build();
    cases.push_back(CorruptCase::refused(lie.name, std::move(bytes), {}, container.offset_of(lie.key)));
  }
  const auto of_tensor = [&](const std::string& name, const std::string& tensor,
                             const std::function<void(ContainerBytes&)>& change) {
    ContainerBytes container = small_container();
    change(container);
    cases.push_back(CorruptCase::refused(name, container.build(), tensor));
  };
  of_tensor("FileLargerThanItsParts", "f0.skeleton", [](ContainerBytes& c) {
    c.files[0].back() = '0';
    c.files[0] += "}";
  });
  of_tensor("SidecarLargerThanItsPart", "s0", [](ContainerBytes& c) {
    c.sidecars[0] = replaced(c.sidecars[0], R"("bytes":5)", R"("bytes":4611686018427387904)");
  });
  of_tensor("PartsThatChangedPlaces", "f0.a1", [](ContainerBytes& c) { std::swap(c.parts[2], c.parts[3]); });
  of_tensor("ArrayThatLeavesAGap", "f0.skeleton",
            [](ContainerBytes& c) { c.arrays[0] = replaced(c.arrays[0], R"("bytes":24)", R"("bytes":23)"); });

  ContainerBytes newer = small_container();
  newer.version = 2;
  cases.push_back(CorruptCase::unsupported("NewerVersion", newer.build(), {}, 0));
  newer = small_container();
  newer.version = std::numeric_limits<std::uint32_t>::max();
  cases.push_back(CorruptCase::unsupported("NewestVersion", newer.build(), {}, 0));
  ContainerBytes foreign = small_container();
  foreign.format = "tensorrt";
  cases.push_back(CorruptCase::unsupported("FormatThatNobodyKnows", foreign.build(), {}, 0));
  ContainerBytes codec = small_container();
  codec.codec = "brotli";
  cases.push_back(CorruptCase::unsupported("CodecThatNobodyKnows", codec.build()));

  ContainerBytes many = small_container();
  Bytes bytes = many.build();
  const std::uint64_t entries = 1'000'000'000;
  const std::size_t count_at = many.offset_of("files") + 8 + std::string("regauge.container.files").size() + 4 + 4;
  std::memcpy(bytes.data() + count_at, &entries, sizeof entries);
  cases.push_back(CorruptCase::refused("BillionFiles", std::move(bytes)));

  bytes = small_container().build();
  bytes[4] = std::byte{2};
  cases.push_back(CorruptCase::unsupported("GgufOfAnotherVersion", std::move(bytes), {}, 4));
  bytes = small_container().build();
  bytes.resize(bytes.size() + 32);
  cases.push_back(CorruptCase::refused("TrailingBytes", std::move(bytes)));
  cases.push_back(CorruptCase::accepted("NothingWrong", small_container().build()));
  return cases;
}

std::vector<CorruptCase> chunk_cases() {
  std::vector<CorruptCase> cases;
  const auto of_key = [&](const std::string& name, const std::string& key,
                          const std::function<void(ContainerBytes&)>& change) {
    ContainerBytes container = compressed_container();
    change(container);
    Bytes bytes = container.build();
    cases.push_back(CorruptCase::refused(name, std::move(bytes), {}, container.offset_of(key)));
  };
  of_key("TooFewChunks", "chunk_stored", [](ContainerBytes& c) { c.chunk_stored.pop_back(); });
  of_key("TooFewCodings", "chunk_coding", [](ContainerBytes& c) { c.chunk_coding.pop_back(); });
  of_key("TooManyDigests", "chunk_digests", [](ContainerBytes& c) { c.chunk_digests.push_back(c.chunk_digests[0]); });
  of_key("DigestThatIsNone", "chunk_digests", [](ContainerBytes& c) { c.chunk_digests[2] = "?"; });
  of_key("UnknownCoding", "chunk_coding", [](ContainerBytes& c) { c.chunk_coding[2] = 3; });
  of_key("ChunkOfNoBytes", "chunk_stored", [](ContainerBytes& c) { c.chunk_stored[2] = 0; });
  of_key("ChunkThatGrew", "chunk_stored", [](ContainerBytes& c) { c.chunk_stored[2] = 1024; });
  of_key("RawChunkOfAnotherSize", "chunk_stored", [](ContainerBytes& c) { c.chunk_coding[2] = 0; });
  for (const std::uint32_t bytes : {0U, 1000U, 512U, 1U << 25, 1U << 31}) {
    of_key("ChunkBytes" + std::to_string(bytes), "chunk_bytes", [=](ContainerBytes& c) { c.chunk_bytes = bytes; });
  }
  of_key("PartsOfMoreChunksThanThereAre", "chunk_stored", [](ContainerBytes& c) {
    c.arrays[0] = replaced(c.arrays[0], R"("bytes":2400)", R"("bytes":9000000000000000000)");
    c.files[0] = R"({"name":"model.safetensors","bytes":9223372036854775807})";
  });

  const auto of_tensor = [&](const std::string& name, const std::string& tensor, ContainerBytes container) {
    cases.push_back(CorruptCase::refused(name, container.build(), tensor));
  };
  ContainerBytes shorter = compressed_container();
  shorter.chunk_stored[3] -= 1;
  of_tensor("ChunksThatDoNotFillTheirTensor", "f0.a0", shorter);

  const Bytes whole = zstd_compress(Bytes(1024), 3);
  const auto frame = [&](const std::string& name, Bytes bytes) { of_tensor(name, "z", with_first_frame(bytes)); };
  Bytes cut = whole;
  cut.pop_back();
  frame("FrameThatIsCut", cut);
  Bytes longer = whole;
  longer.push_back(std::byte{0});
  frame("FrameWithAByteMore", longer);
  Bytes two = zstd_compress(Bytes(512), 3);
  const Bytes second = two;
  two.insert(two.end(), second.begin(), second.end());
  frame("TwoFrames", two);
  frame("FrameOfAnotherSize", zstd_compress(Bytes(1023), 3));
  frame("FrameThatIsNone", Bytes(20));
  // Skippable frame, then the real one. Source of the magic: RFC 8878, section 3.1.2.
  Bytes skipped = {std::byte{0x50}, std::byte{0x2A}, std::byte{0x4D}, std::byte{0x18}};
  skipped.resize(8);
  skipped.insert(skipped.end(), whole.begin(), whole.end());
  frame("SkippableFrameFirst", skipped);
  // Frame_Header_Descriptor 0xE0: an 8 byte content size (RFC 8878, section 3.1.1.1), which says 2^63.
  Bytes claims = {std::byte{0x28}, std::byte{0xB5}, std::byte{0x2F}, std::byte{0xFD}, std::byte{0xE0}};
  claims.resize(13);
  claims[12] = std::byte{0x80};
  claims.resize(20);
  frame("FrameThatClaimsTwoToThe63", claims);
  // 0x21: a content size of one byte, a dictionary's id of one byte.
  Bytes dictionary = {std::byte{0x28}, std::byte{0xB5}, std::byte{0x2F}, std::byte{0xFD}, std::byte{0x61}, std::byte{7},
                      std::byte{0},    std::byte{3},    std::byte{0x01}, std::byte{0},    std::byte{0}};
  frame("FrameThatWantsADictionary", dictionary);

  ContainerBytes other = compressed_container();
  other.chunk_digests[2] = std::string(32, '0');
  of_tensor("ChunkWithoutItsDigest", "z", other);
  ContainerBytes planes = compressed_container();
  planes.chunk_coding[1] = 2;
  cases.push_back(CorruptCase::accepted("PlanesOfZerosAreZeros", planes.build()));
  cases.push_back(CorruptCase::accepted("NothingWrong", compressed_container().build()));
  return cases;
}

class ContainerCorrupt : public ::testing::TestWithParam<CorruptCase> {};

TEST_P(ContainerCorrupt, GetsWhatItDeserves) {
  const ScratchDir scratch;
  testing::check_case(kContainerFormat, GetParam(), scratch / "file.rg.gguf");
}

INSTANTIATE_TEST_SUITE_P(Description, ContainerCorrupt, ::testing::ValuesIn(description_cases()),
                         [](const auto& param) { return param.param.name; });
INSTANTIATE_TEST_SUITE_P(Chunks, ContainerCorrupt, ::testing::ValuesIn(chunk_cases()),
                         [](const auto& param) { return param.param.name; });

TEST(ContainerVersion, ANewerOneIsNamedTogetherWithOurs) {
  const ScratchDir scratch;
  ContainerBytes newer = small_container();
  newer.version = 73;
  testing::write_whole_file(scratch / "x.gguf", newer.build());
  try {
    open_checkpoint(scratch / "x.gguf");
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_NE(error.message().find("73"), std::string::npos);
    EXPECT_NE(error.message().find("version 1"), std::string::npos);
  }
}

std::shared_ptr<const container::Package> open_package(const std::filesystem::path& path) {
  return container::Package::open(std::make_shared<const File>(File::open(path)));
}

std::vector<Bytes> members(const container::Package& package) {
  std::vector<Bytes> out;
  for (std::size_t i = 0; i < package.layout().members(); ++i) {
    out.emplace_back(static_cast<std::size_t>(package.member(i).bytes));
    package.read_member(i, 0, out.back());
  }
  return out;
}

TEST(ContainerTruncated, AtEveryByteIsRefused) {
  const ScratchDir scratch;
  for (ContainerBytes container : {small_container(), compressed_container()}) {
    const Bytes whole = container.build();
    testing::write_whole_file(scratch / "x.rg.gguf", whole);
    for (std::size_t length = whole.size(); length-- > 0;) {
      std::filesystem::resize_file(scratch / "x.rg.gguf", length);
      EXPECT_THROW(open_package(scratch / "x.rg.gguf"), Error) << length;
    }
  }
}

// What opens and passes the check is what was packed: no single byte can change it unseen.
TEST(ContainerFlipped, NoByteGoesUnnoticedThatMatters) {
  const ScratchDir scratch;
  for (ContainerBytes container : {small_container(), compressed_container()}) {
    const Bytes whole = container.build();
    testing::write_whole_file(scratch / "x.rg.gguf", whole);
    const auto original = members(*open_package(scratch / "x.rg.gguf"));
    std::size_t refused = 0;
    std::size_t found = 0;
    for (std::size_t at = 0; at < whole.size(); ++at) {
      testing::set_byte(scratch / "x.rg.gguf", at, whole[at] ^ std::byte{0x11});
      try {
        const auto package = open_package(scratch / "x.rg.gguf");
        bool clean = true;
        for (std::size_t part = 0; part < package->layout().parts().size(); ++part) {
          clean = clean && !package->check_part(part);
        }
        found += clean ? 0 : 1;
        if (clean) {
          ASSERT_EQ(members(*package), original) << at;
          ASSERT_EQ(package->member(0).name, "model.safetensors") << at;
        }
      } catch (const Error& error) {
        EXPECT_NE(error.code(), ErrorCode::internal) << at;
        ++refused;
      }
      testing::set_byte(scratch / "x.rg.gguf", at, whole[at]);
    }
    EXPECT_GT(refused, 1000U);
    EXPECT_GE(found, 33U) << "every byte of the data at least";
  }
}

TEST(ContainerDamaged, DataNameArrayAndPlaceInTheCheckAndInTheRead) {
  const ScratchDir scratch;
  ContainerBytes container = compressed_container();
  const Bytes bytes = container.build();
  // The first byte of the second frame: behind the last 32 bytes' multiple that holds all three.
  const std::size_t data = bytes.size() - (container.parts[1].bytes.size() + 31) / 32 * 32;
  const std::size_t second = data + container.chunk_stored[1];
  testing::write_whole_file(scratch / "x.rg.gguf", bytes);
  testing::set_byte(scratch / "x.rg.gguf", second, std::byte{0});
  const Findings findings = container::check(scratch / "x.rg.gguf");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].code, "container-part-damaged");
  EXPECT_EQ(findings[0].severity, Severity::fault);
  EXPECT_EQ(findings[0].file, "model.safetensors");
  EXPECT_EQ(findings[0].tensor, "z");
  try {
    testing::read_everything(open_checkpoint(scratch / "x.rg.gguf"));
    FAIL() << "read";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed);
    EXPECT_EQ(error.tensor_name(), "z");
    EXPECT_EQ(error.byte_offset(), second);
    EXPECT_EQ(error.file(), (scratch / "x.rg.gguf").native());
  }
}

TEST(ContainerDamaged, AnInnerFileGetsItsOwnReadersWords) {
  const ScratchDir scratch;
  ContainerBytes container = small_container();
  container.parts[0].bytes[8] = std::byte{'?'};  // where the header's brace was
  testing::write_whole_file(scratch / "x.rg.gguf", container.build());
  try {
    open_checkpoint(scratch / "x.rg.gguf");
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed);
    EXPECT_EQ(error.file(), (scratch / "x.rg.gguf").native() + "/model.safetensors");
  }
}

TEST(ContainerDescription, ThatMisnamesAnArrayIsAFinding) {
  const ScratchDir scratch;
  ContainerBytes container = small_container();
  container.arrays[0] = replaced(container.arrays[0], R"("name":"a")", R"("name":"lm_head.weight")");
  testing::write_whole_file(scratch / "x.rg.gguf", container.build());
  const Checkpoint checkpoint = open_checkpoint(scratch / "x.rg.gguf");
  EXPECT_TRUE(testing::has_finding(checkpoint, "container-description"));
  EXPECT_EQ(checkpoint.tensors.at(0).name, "a");
}

}  // namespace
}  // namespace regauge
