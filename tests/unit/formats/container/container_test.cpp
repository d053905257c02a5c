#include "formats/container/container.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <zstd.h>

#include "base/error.h"
#include "base/zstd.h"
#include "formats/container/package.h"
#include "formats/container/restore.h"
#include "formats/gguf/gguf.h"
#include "tests/support/array_file.h"
#include "tests/support/builders.h"
#include "tests/support/container_bytes.h"
#include "tests/support/golden.h"
#include "tests/support/pack.h"
#include "tests/support/rewrite.h"
#include "tests/unit/formats/container/packing.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::ArrayFile;
using testing::Bytes;
using testing::ContainerBytes;
using testing::make_directory;
using testing::open_package;
using testing::pack;
using testing::plain_array;
using testing::read_whole_file;
using testing::ScratchDir;
using testing::write_text;
using testing::write_whole_file;

Bytes bytes_of_array(const Checkpoint& checkpoint, const StoredArray& array) {
  return checkpoint.files.at(array.file).file->read_range(array.offset, array.bytes);
}

TEST(ContainerByHand, OpensAsTheCheckpointThatItDescribes) {
  const ScratchDir scratch;
  write_whole_file(scratch / "x.rg.gguf", testing::small_container().build());
  const Checkpoint checkpoint = open_checkpoint(scratch / "x.rg.gguf");
  EXPECT_EQ(checkpoint.format, "container");
  EXPECT_EQ(checkpoint.format_version, "1 (safetensors)");
  EXPECT_EQ(checkpoint.array_format(), "safetensors");
  EXPECT_EQ(checkpoint.path, (scratch / "x.rg.gguf").native());
  EXPECT_TRUE(checkpoint.findings.empty());
  ASSERT_EQ(checkpoint.tensors.size(), 2U);
  EXPECT_EQ(checkpoint.tensors[0].name, "a");
  EXPECT_EQ(checkpoint.tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(testing::read_part(checkpoint.tensors[1].parts[0]),
            (Bytes{std::byte{24}, std::byte{25}, std::byte{26}, std::byte{27}}));
  ASSERT_EQ(checkpoint.sidecars.size(), 1U);
  EXPECT_EQ(checkpoint.sidecar_text("notes/readme.txt", 100), "hello");
  EXPECT_TRUE(container::check(scratch / "x.rg.gguf").empty());
  container::restore(scratch / "x.rg.gguf", scratch / "out");
  EXPECT_EQ(read_whole_file(scratch / "out" / "model.safetensors"), testing::small_safetensors());
}

TEST(ContainerByHand, IsWhatTheWriterWritesTooApartFromTypes) {
  const ScratchDir scratch;
  fs::create_directories(scratch / "model/notes");
  write_whole_file(scratch / "model/model.safetensors", testing::small_safetensors());
  write_text(scratch / "model/notes/readme.txt", "hello");
  pack(open_checkpoint(scratch / "model"), scratch / "x.rg.gguf");
  ContainerBytes by_hand = testing::small_container();
  by_hand.build();
  const Checkpoint plain = open_gguf(probe(scratch / "x.rg.gguf"));
  EXPECT_EQ(plain.metadata.entries().front().first, "regauge.container.version");
  EXPECT_EQ(plain.metadata.get_string("regauge.container.root"), by_hand.root);
  for (const auto& part : by_hand.parts) {
    EXPECT_EQ(bytes_of_array(plain, plain_array(plain, part.name)), part.bytes) << part.name;
  }
}

TEST(ContainerByHand, DecodesPlanesAndRawChunks) {
  const ScratchDir scratch;
  Bytes file =
      testing::safetensors_bytes("{" + testing::safetensors_entry("h", "F16", "[1000]", "[0,2000]") + "}", 2000);
  const std::size_t header = file.size() - 2000;
  ContainerBytes spec;
  spec.files = {R"({"name":"model.safetensors","bytes":)" + std::to_string(file.size()) + "}"};
  spec.arrays = {R"({"name":"h","element":"F16","shape":[1000],"file":0,"offset":)" + std::to_string(header) +
                 R"(,"bytes":2000})"};
  spec.codec = "zstd";
  const auto begin = file.begin() + static_cast<std::ptrdiff_t>(header);
  spec.raw = {Bytes(file.begin(), begin), Bytes(begin, file.end())};
  Bytes planes;
  for (const std::size_t half : {0U, 1U}) {
    for (std::size_t i = 0; i < 512; ++i) planes.push_back(spec.raw[1][2 * i + half]);
  }
  Bytes first(ZSTD_compressBound(planes.size()));
  first.resize(ZSTD_compress(first.data(), first.size(), planes.data(), planes.size(), 19));
  ASSERT_LT(first.size(), 1024U);
  Bytes stored = first;
  stored.insert(stored.end(), begin + 1024, file.end());
  spec.parts = {{"f0.skeleton", spec.raw[0]}, {"f0.a0", stored}};
  spec.chunk_stored = {static_cast<std::uint32_t>(header), static_cast<std::uint32_t>(first.size()), 976};
  spec.chunk_coding = {0, 2, 0};
  for (const auto piece :
       {std::span(spec.raw[0]), std::span(spec.raw[1]).first(1024), std::span(spec.raw[1]).subspan(1024)}) {
    spec.chunk_digests.push_back(hex(Xxh3_128::of(piece)));
  }
  write_whole_file(scratch / "x.rg.gguf", spec.build());
  const Checkpoint checkpoint = open_checkpoint(scratch / "x.rg.gguf");
  EXPECT_EQ(testing::read_part(checkpoint.tensors.at(0).parts[0], 1), spec.raw[1]);
  // A read across both chunks that begins and ends inside them.
  Bytes middle(200);
  checkpoint.files[0].file->read_at(header + 1000, middle);
  EXPECT_TRUE(std::ranges::equal(middle, std::span(spec.raw[1]).subspan(1000, 200)));
}

TEST(Container, GivesArraysTheirTypesWhereGgmlHasThem) {
  const ScratchDir scratch;
  const fs::path folder = make_directory(scratch);
  const Checkpoint original = open_checkpoint(folder);
  pack(original, scratch / "x.rg.gguf");
  const Checkpoint plain = open_gguf(probe(scratch / "x.rg.gguf"));
  ASSERT_EQ(plain.arrays.size(), 1U + 2U + 6U);
  for (const StoredArray& array : plain.arrays) EXPECT_LT(array.name.size(), 64U);
  const auto package = open_package(scratch / "x.rg.gguf");
  std::size_t seen = 0;
  for (std::size_t i = 0; i < package->layout().parts().size(); ++i) {
    const StoredArray& array = plain_array(plain, package->layout().parts()[i].tensor);
    const std::string name = package->array_name(i);
    seen += name.empty() ? 0 : 1;
    if (name == "h") {
      EXPECT_EQ(array.element, decltype(array.element)(DType::f16));
      EXPECT_EQ(array.shape, Shape{3000});
    } else {
      // ggml has no U32, F8 or BOOL, and no rank of 6; the rest are files.
      EXPECT_EQ(array.element, decltype(array.element)(DType::i8)) << name;
      EXPECT_EQ(array.shape.rank(), 1U) << name;
    }
    if (name.empty()) continue;
    const StoredArray& of_original = *original.find_array(name);
    EXPECT_EQ(bytes_of_array(plain, array), bytes_of_array(original, of_original)) << name;
  }
  EXPECT_EQ(seen, 6U);
}

TEST(Container, KeepsForeignTypesRanksAndEmptyFiles) {
  const ScratchDir scratch;
  const fs::path folder = make_directory(scratch);
  for (const bool zstd : {false, true}) {
    pack(open_checkpoint(folder), scratch / "x.rg.gguf", {.zstd = zstd, .chunk_bytes = 1024});
    const Checkpoint checkpoint = open_checkpoint(scratch / "x.rg.gguf");
    EXPECT_EQ(checkpoint.find("deep")->shape, (Shape{1, 1, 1, 2, 1, 2}));
    EXPECT_EQ(checkpoint.find("f")->encoding, Encoding(Dense{DType::f8_e4m3}));
    EXPECT_EQ(checkpoint.find("none")->shape, (Shape{0, 5}));
    EXPECT_EQ(checkpoint.sidecar_text("empty.txt", 10), "");
    container::restore(scratch / "x.rg.gguf", scratch / "out");
    for (const char* name : {"model.safetensors", "notes/readme.txt", "empty.txt"}) {
      EXPECT_EQ(read_whole_file(scratch / "out" / name), read_whole_file(folder / name)) << name;
    }
    fs::remove_all(scratch / "out");
    fs::remove(scratch / "x.rg.gguf");
  }
}

TEST(Container, KeepsGgufFilesOfEveryVersionAndByteOrder) {
  const ScratchDir scratch;
  for (const bool is_big_endian : {false, true}) {
    for (const std::uint32_t version : {1U, 2U, 3U}) {
      if (is_big_endian && version < 3) continue;
      const Bytes original = testing::small_gguf(version, is_big_endian).bytes();
      write_whole_file(scratch / "m.gguf", original);
      const Checkpoint source = open_checkpoint(scratch / "m.gguf");
      for (const bool zstd : {false, true}) {
        pack(source, scratch / "x.rg.gguf", {.zstd = zstd});
        const Checkpoint checkpoint = open_checkpoint(scratch / "x.rg.gguf");
        EXPECT_EQ(checkpoint.format_version, "1 (gguf " + source.format_version + ")");
        for (std::size_t i = 0; i < 2; ++i) {
          EXPECT_EQ(testing::read_part(checkpoint.tensors.at(i).parts[0]),
                    testing::read_part(source.tensors[i].parts[0]));
        }
        const Checkpoint plain = open_gguf(probe(scratch / "x.rg.gguf"));
        const bool is_native = plain_array(plain, "f0.a1").element == decltype(StoredArray::element)(BlockType::q8_0);
        EXPECT_EQ(is_native, !zstd && !is_big_endian);
        container::restore(scratch / "x.rg.gguf", scratch / "again.gguf");
        EXPECT_EQ(read_whole_file(scratch / "again.gguf"), original);
        fs::remove(scratch / "again.gguf");
        fs::remove(scratch / "x.rg.gguf");
      }
    }
  }
}

TEST(Container, KeepsAllShardsOfASplitGguf) {
  const ScratchDir scratch;
  std::vector<Bytes> shards;
  for (std::uint16_t i = 0; i < 2; ++i) {
    testing::GgufBytes file;
    file.preamble(1, i == 0 ? 4 : 3);
    if (i == 0) file.text_key("general.architecture", "llama");
    file.key("split.no", 2).u16(i).key("split.count", 2).u16(2).key("split.tensors.count", 5).i32(2);
    file.tensor("t" + std::to_string(i), {40}, 24, 0).pad().data(40).pad();
    shards.push_back(file.bytes());
    write_whole_file(scratch / ("m-0000" + std::to_string(i + 1) + "-of-00002.gguf"), shards.back());
  }
  pack(open_checkpoint(scratch / "m-00001-of-00002.gguf"), scratch / "x.rg.gguf");
  const Checkpoint checkpoint = open_checkpoint(scratch / "x.rg.gguf");
  ASSERT_EQ(checkpoint.tensors.size(), 2U);
  EXPECT_EQ(checkpoint.files.at(1).name, "m-00002-of-00002.gguf");
  EXPECT_TRUE(container::restore(scratch / "x.rg.gguf", scratch / "out/").is_directory);
  EXPECT_EQ(read_whole_file(scratch / "out" / "m-00001-of-00002.gguf"), shards[0]);
  EXPECT_EQ(read_whole_file(scratch / "out" / "m-00002-of-00002.gguf"), shards[1]);
}

TEST(Container, TakesTheConfigurationBesideASingleFileAlong) {
  const ScratchDir scratch;
  const fs::path folder = scratch / "model";
  fs::create_directories(folder);
  ArrayFile()
      .fill("m.weight", "U32", {8, 8}, 256, 0x5A)
      .fill("m.scales", "BF16", {8, 2}, 32, 0x3F)
      .fill("m.biases", "BF16", {8, 2}, 32, 0xBF)
      .write(folder / "model.safetensors");
  write_text(folder / "config.json", R"({"quantization":{"group_size":32,"bits":4}})");
  const Checkpoint original = open_checkpoint(folder / "model.safetensors");
  ASSERT_EQ(to_string(original.tensors.at(0).encoding), "u4 g32 bf16 bias");
  pack(original, scratch / "x.rg.gguf");
  const Checkpoint checkpoint = open_checkpoint(scratch / "x.rg.gguf");
  EXPECT_EQ(checkpoint.tensors.at(0).encoding, original.tensors[0].encoding);
  EXPECT_EQ(checkpoint.quantization, original.quantization);
  EXPECT_TRUE(container::restore(scratch / "x.rg.gguf", scratch / "out").is_directory);
  EXPECT_TRUE(fs::exists(scratch / "out" / "config.json"));
}

TEST(Container, PackedFromAContainerIsTheSameContainer) {
  const ScratchDir scratch;
  pack(open_checkpoint(make_directory(scratch)), scratch / "first.rg.gguf");
  pack(open_checkpoint(scratch / "first.rg.gguf"), scratch / "zstd.rg.gguf", {.zstd = true, .chunk_bytes = 1024});
  pack(open_checkpoint(scratch / "zstd.rg.gguf"), scratch / "again.rg.gguf");
  EXPECT_EQ(read_whole_file(scratch / "again.rg.gguf"), read_whole_file(scratch / "first.rg.gguf"));
}

TEST(Container, SplitsSixteenBitArraysIntoPlanesAndLeavesRawWhatDoesNotShrink) {
  const ScratchDir scratch;
  const Checkpoint original = open_checkpoint(make_directory(scratch, 4096));
  pack(original, scratch / "x.rg.gguf", {.zstd = true, .chunk_bytes = 4096});
  const Checkpoint plain = open_gguf(probe(scratch / "x.rg.gguf"));
  const auto package = open_package(scratch / "x.rg.gguf");
  const auto& coding =
      std::get<std::vector<std::uint8_t>>(plain.metadata.get_array("regauge.container.chunk_coding")->values);
  const auto& stored =
      std::get<std::vector<std::uint32_t>>(plain.metadata.get_array("regauge.container.chunk_stored")->values);
  std::size_t chunk = 0;
  for (std::size_t i = 0; i < package->layout().parts().size(); ++i) {
    const container::Part& part = package->layout().parts()[i];
    const StoredArray& array = plain_array(plain, part.tensor);
    if (package->array_name(i) == "h") {
      // Two chunks. Random low bytes and one high byte: the planes take a little more than half of it.
      const Bytes bytes = bytes_of_array(plain, array);
      const Bytes raw = bytes_of_array(original, *original.find_array("h"));
      for (std::size_t c = 0, at = 0; c < 2; at += stored[chunk + c++]) {
        ASSERT_EQ(coding.at(chunk + c), 2);
        Bytes planes(4096);
        ASSERT_EQ(ZSTD_decompress(planes.data(), planes.size(), bytes.data() + at, stored[chunk + c]), 4096U);
        EXPECT_LT(stored[chunk + c], 2200U);
        for (std::size_t e = 0; e < 2048; ++e) {
          ASSERT_EQ(planes[e], raw[c * 4096 + 2 * e]);
          ASSERT_EQ(planes[2048 + e], raw[c * 4096 + 2 * e + 1]);
        }
      }
    } else if (package->array_name(i) == "u") {
      EXPECT_EQ(coding.at(chunk), 0);
      EXPECT_EQ(stored.at(chunk), 8U);
    }
    chunk += (part.bytes + 4095) / 4096;
  }
  EXPECT_EQ(plain.metadata.get_string("regauge.container.zstd_version"), std::string(ZSTD_versionString()));
}

TEST(Container, HasTheSameBytesWhateverThreadsWroteIt) {
  const ScratchDir scratch;
  const Checkpoint original = open_checkpoint(make_directory(scratch));
  pack(original, scratch / "one.rg.gguf");
  container::ContainerWriter writer(scratch / "many.rg.gguf", {});
  writer.begin(original);
  {
    std::vector<std::jthread> threads;
    for (std::size_t first = 0; first < 3; ++first) {
      threads.emplace_back([&writer, first] {
        for (std::size_t i = first; i < writer.units(); i += 3) writer.write(i);
      });
    }
  }
  writer.finish();
  EXPECT_EQ(read_whole_file(scratch / "one.rg.gguf"), read_whole_file(scratch / "many.rg.gguf"));
}

TEST(Container, IsReadByManyThreadsAtOnce) {
  const ScratchDir scratch;
  const Checkpoint original = open_checkpoint(make_directory(scratch, 200'000));
  // Far more chunks than are kept.
  pack(original, scratch / "x.rg.gguf", {.zstd = true, .chunk_bytes = 1024});
  const Checkpoint checkpoint = open_checkpoint(scratch / "x.rg.gguf");
  const Bytes expected = testing::read_part(original.find("h")->parts[0]);
  const StoredArray& array = *checkpoint.find_array("h");
  std::vector<int> differences(4);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < differences.size(); ++t) {
      threads.emplace_back([&, t] {
        Bytes piece(1500);
        for (std::size_t at = t * 37; at + piece.size() <= expected.size(); at += 1111) {
          checkpoint.files[array.file].file->read_at(array.offset + at, piece);
          if (!std::ranges::equal(piece, std::span(expected).subspan(at, piece.size()))) ++differences[t];
        }
      });
    }
  }
  EXPECT_EQ(differences, std::vector<int>(4));
}

TEST(Container, KeepsValueDigestsWithTheirTensors) {
  const ScratchDir scratch;
  const std::vector<std::pair<std::string, Digest128>> digests = {{"h", {.high = 0x0123456789ABCDEF, .low = 5}}};
  pack(open_checkpoint(make_directory(scratch)), scratch / "x.rg.gguf", {.value_digests = digests});
  const auto package = open_package(scratch / "x.rg.gguf");
  for (const container::LogicalTensor& tensor : package->description().tensors) {
    EXPECT_EQ(tensor.value_digest.has_value(), tensor.name == "h");
    EXPECT_EQ(tensor.value_digest.value_or(digests[0].second), digests[0].second);
  }
}

}  // namespace
}  // namespace regauge
