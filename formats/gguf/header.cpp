#include "formats/gguf/header.h"

#include <algorithm>
#include <limits>
#include <unordered_set>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/text.h"
#include "formats/format.h"
#include "formats/gguf/cursor.h"
#include "ir/ggml_type.h"

namespace regauge::gguf {
namespace {

// Longest key that the format's description allows; ggml takes any. Source: ggml-org/ggml docs/gguf.md.
constexpr std::uint64_t kMaxKeyBytes = 65'535;

class HeaderReader {
 public:
  HeaderReader(const File& file, FindingTally& tally) : file_(file), cursor_(file), tally_(tally) {}

  Header read() {
    read_preamble();
    const std::uint64_t tensor_count = read_count("number of tensors");
    const std::uint64_t key_count = read_count("number of keys");
    // The least that one of each takes: a key of one byte with a value of one byte, a tensor without name or
    // dimensions.
    cursor_.check(key_count, length_bytes() + 1 + 4 + 1, "list of keys");
    cursor_.check(tensor_count, length_bytes() + 4 + 4 + 8, "list of tensors");
    read_keys(key_count);
    header_.alignment = check_known_keys(header_.metadata, header_.key_offsets, file_.path(), tally_);
    read_tensors(tensor_count);
    header_.header_bytes = cursor_.offset();
    header_.data_offset = round_up(header_.header_bytes, header_.alignment);
    return std::move(header_);
  }

 private:
  /// Version 1 counts and measures in 32 bits. Sources: huggingface/huggingface.js packages/gguf/src/gguf.ts and
  /// gpustack/gguf-parser-go file.go, which still read it.
  std::uint64_t length_bytes() const { return header_.version == 1 ? 4 : 8; }
  std::uint64_t read_length(std::string_view what) {
    return header_.version == 1 ? cursor_.read<std::uint32_t>(what) : cursor_.read<std::uint64_t>(what);
  }

  std::uint64_t read_count(std::string_view what) {
    const std::uint64_t at = cursor_.offset();
    const std::uint64_t count = read_length(what);
    if (count > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      throw cursor_.fail(at, fmt::format("{} is {}, which is negative to ggml", what, count));
    }
    return count;
  }

  void read_preamble() {
    if (cursor_.remaining() < kMagic.size() || cursor_.read_text(kMagic.size(), "magic") != kMagic) {
      const auto head = file_.read_range(0, std::min<std::uint64_t>(file_.size(), Source::kHeadBytes));
      const auto foreign = describe_foreign(head);
      throw Error(ErrorCode::malformed, "is no GGUF file{}", foreign ? ", but " + *foreign : "")
          .at(file_.path())
          .offset(0);
    }
    header_.version = cursor_.read<std::uint32_t>("version");
    // A version in the other byte order has its small number in the upper half, as ggml and gguf-py tell it.
    if (header_.version != 0 && (header_.version & 0xFFFFU) == 0) {
      header_.is_big_endian = true;
      header_.version = ByteReader::byteswap(header_.version);
      cursor_.swap_bytes(true);
    }
    if (header_.version == 0) throw cursor_.fail(kMagic.size(), "version 0 does not exist");
    // Big endian came with version 3. Source: ggml-org/ggml docs/gguf.md, version history.
    if (header_.version > 3 || (header_.is_big_endian && header_.version < 3)) {
      throw Error(ErrorCode::unsupported, "version {}{} is not read", header_.version,
                  header_.is_big_endian ? " in big endian order" : "")
          .at(file_.path())
          .offset(kMagic.size());
    }
  }

  std::string read_string(std::string_view what) {
    const std::uint64_t at = cursor_.offset();
    const std::uint64_t length = read_length(what);
    if (length > kMaxGgufStringBytes) {
      throw cursor_.fail(at, fmt::format("{} has {} bytes, more than ggml takes", what, length));
    }
    return cursor_.read_text(length, what);
  }

  void read_keys(std::uint64_t count) {
    std::unordered_set<std::string> seen;
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t at = cursor_.offset();
      std::string key = read_string("key");
      if (key.empty()) throw cursor_.fail(at, "a key is empty");
      // ggml compares keys as C strings: two that differ behind a NUL would be one.
      if (key.find('\0') != std::string::npos)
        throw cursor_.fail(at, fmt::format("key '{}' holds a NUL", excerpt(key)));
      if (!seen.insert(key).second) throw cursor_.fail(at, fmt::format("key '{}' is there twice", excerpt(key)));
      if (key.size() > kMaxKeyBytes)
        tally_.add(Severity::warning, "key-too-long", "key is longer than 65535 bytes", key);
      if (!is_utf8(key)) tally_.add(Severity::warning, "key-not-utf8", "key is not UTF-8", key);
      key_ = key;
      MetaValue value = read_value();
      header_.metadata.append(std::move(key), std::move(value));
      header_.key_offsets.push_back(at);
    }
  }

  MetaType read_type() {
    const std::uint64_t at = cursor_.offset();
    const auto type = cursor_.read<std::uint32_t>("value type");
    if (type > static_cast<std::uint32_t>(MetaType::f64)) {
      throw cursor_.fail(at, fmt::format("key '{}' has the unknown value type {}", excerpt(key_), type));
    }
    return static_cast<MetaType>(type);
  }

  MetaValue read_value() {
    switch (read_type()) {
      case MetaType::u8: return cursor_.read<std::uint8_t>("value");
      case MetaType::i8: return cursor_.read<std::int8_t>("value");
      case MetaType::u16: return cursor_.read<std::uint16_t>("value");
      case MetaType::i16: return cursor_.read<std::int16_t>("value");
      case MetaType::u32: return cursor_.read<std::uint32_t>("value");
      case MetaType::i32: return cursor_.read<std::int32_t>("value");
      case MetaType::f32: return cursor_.read<float>("value");
      case MetaType::boolean: return truth(cursor_.read<std::uint8_t>("value")) != 0;
      case MetaType::string: return read_value_string();
      case MetaType::array: return read_array();
      case MetaType::u64: return cursor_.read<std::uint64_t>("value");
      case MetaType::i64: return cursor_.read<std::int64_t>("value");
      case MetaType::f64: return cursor_.read<double>("value");
    }
    throw Error(ErrorCode::internal, "value type without a reader");
  }

  std::uint8_t truth(std::uint8_t byte) {
    if (byte > 1) tally_.add(Severity::warning, "bool-not-0-or-1", "boolean byte above 1 is read as true", key_);
    return byte == 0 ? 0 : 1;
  }

  std::string read_value_string() {
    std::string text = read_string("string");
    if (!is_utf8(text)) tally_.add(Severity::warning, "string-not-utf8", "string value is not UTF-8", key_);
    return text;
  }

  MetaArray read_array() {
    const std::uint64_t at = cursor_.offset();
    MetaArray array;
    array.element = read_type();
    if (array.element == MetaType::array) {
      throw cursor_.fail(at, fmt::format("key '{}' is an array of arrays, which ggml does not read", excerpt(key_)));
    }
    const std::uint64_t count = read_length("array length");
    if (count > kMaxGgufArrayElements) {
      throw cursor_.fail(at, fmt::format("key '{}' has {} elements, more than ggml takes", excerpt(key_), count));
    }
    if (count == 0) tally_.add(Severity::note, "empty-array", "array without elements", key_);
    array.values = read_elements(array.element, count);
    return array;
  }

  MetaElements read_elements(MetaType type, std::uint64_t count) {
    constexpr std::string_view kWhat = "array";
    switch (type) {
      case MetaType::u8: return cursor_.read_numbers<std::uint8_t>(count, kWhat);
      case MetaType::i8: return cursor_.read_numbers<std::int8_t>(count, kWhat);
      case MetaType::u16: return cursor_.read_numbers<std::uint16_t>(count, kWhat);
      case MetaType::i16: return cursor_.read_numbers<std::int16_t>(count, kWhat);
      case MetaType::u32: return cursor_.read_numbers<std::uint32_t>(count, kWhat);
      case MetaType::i32: return cursor_.read_numbers<std::int32_t>(count, kWhat);
      case MetaType::f32: return cursor_.read_numbers<float>(count, kWhat);
      case MetaType::u64: return cursor_.read_numbers<std::uint64_t>(count, kWhat);
      case MetaType::i64: return cursor_.read_numbers<std::int64_t>(count, kWhat);
      case MetaType::f64: return cursor_.read_numbers<double>(count, kWhat);
      case MetaType::boolean: {
        auto bytes = cursor_.read_numbers<std::uint8_t>(count, kWhat);
        for (std::uint8_t& byte : bytes) byte = truth(byte);
        return bytes;
      }
      case MetaType::string: {
        cursor_.check(count, length_bytes(), kWhat);
        std::vector<std::string> strings;
        strings.reserve(static_cast<std::size_t>(count));
        for (std::uint64_t i = 0; i < count; ++i) strings.push_back(read_value_string());
        return strings;
      }
      case MetaType::array: break;
    }
    throw Error(ErrorCode::internal, "array type without a reader");
  }

  void read_tensors(std::uint64_t count) {
    std::unordered_set<std::string> seen;
    header_.tensors.reserve(static_cast<std::size_t>(count));
    for (std::uint64_t i = 0; i < count; ++i) {
      TensorInfo info = read_tensor();
      if (!seen.insert(info.name).second) throw cursor_.fail(info.at, "is there twice").tensor(info.name);
      header_.tensors.push_back(std::move(info));
    }
  }

  TensorInfo read_tensor() {
    TensorInfo info;
    info.at = cursor_.offset();
    const std::uint64_t length = read_length("tensor name");
    if (length >= kGgufNameBytes) {
      throw cursor_.fail(info.at, fmt::format("a tensor name has {} bytes, more than {}", length, kGgufNameBytes - 1));
    }
    info.name = cursor_.read_text(length, "tensor name");
    try {
      check_name(info);
      read_dims(info);
      read_tensor_type(info);
      info.offset = cursor_.read<std::uint64_t>("tensor offset");
    } catch (Error& error) {
      error.tensor(info.name);
      throw;
    }
    return info;
  }

  void check_name(const TensorInfo& info) {
    // ggml cuts the name there, and two tensors may become one.
    if (info.name.find('\0') != std::string::npos) throw cursor_.fail(info.at, "name holds a NUL");
    if (info.name.empty()) tally_.add(Severity::warning, "tensor-without-name", "a tensor has an empty name");
    if (!is_utf8(info.name))
      tally_.add(Severity::warning, "tensor-name-not-utf8", "tensor name is not UTF-8", info.name);
  }

  void read_dims(TensorInfo& info) {
    const auto dims = cursor_.read<std::uint32_t>("number of dimensions");
    if (dims > kMaxGgufDims) {
      throw cursor_.fail(info.at, fmt::format("has {} dimensions, more than {}", dims, kMaxGgufDims));
    }
    if (dims == 0)
      tally_.add(Severity::note, "tensor-without-dimensions", "tensor without dimensions is one element", info.name);
    for (std::uint32_t i = 0; i < dims; ++i) {
      const std::uint64_t dim = read_length("dimension");
      if (dim > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        throw cursor_.fail(info.at, fmt::format("dimension {} is {}, which is negative to ggml", i, dim));
      }
      if (dim == 0) tally_.add(Severity::note, "empty-tensor", "tensor without elements", info.name);
      info.ne.push_back(static_cast<std::int64_t>(dim));
    }
    if (!checked_product(info.ne)) throw cursor_.fail(info.at, "has too many elements");
  }

  void read_tensor_type(TensorInfo& info) {
    info.type = cursor_.read<std::uint32_t>("tensor type");
    if (info.type > static_cast<std::uint32_t>(std::numeric_limits<std::int32_t>::max())) {
      throw cursor_.fail(info.at, fmt::format("type {} is negative to ggml", info.type));
    }
    if (is_retired_ggml_type(info.type)) {
      throw Error(ErrorCode::unsupported, "type {} was removed from ggml, and its blocks have no size any more",
                  info.type)
          .at(file_.path())
          .offset(info.at);
    }
    const GgmlType* type = find_ggml_type(info.type);
    if (type == nullptr || !type->block) return;
    if (info.ne.size() < 2) {
      throw cursor_.fail(info.at, fmt::format("is {} with {} dimension{}: blocks need rows", type->name, info.ne.size(),
                                              info.ne.size() == 1 ? "" : "s"));
    }
    if (info.ne[0] % type->block_elements != 0) {
      throw cursor_.fail(info.at, fmt::format("has rows of {} elements, no multiple of the {} in a block of {}",
                                              info.ne[0], type->block_elements, type->name));
    }
  }

  const File& file_;
  FileCursor cursor_;
  FindingTally& tally_;
  Header header_;
  std::string key_;  // being read, for messages
};

}  // namespace

Header read_header(const File& file, FindingTally& tally) { return HeaderReader(file, tally).read(); }

}  // namespace regauge::gguf
