#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/format.h"
#include "tests/support/allocation_watch.h"
#include "tests/support/builders.h"
#include "tests/support/rewrite.h"

namespace regauge::testing {

/// What a reader owes a file.
enum class Verdict { refused, accepted, accepted_with_finding };

/// One broken or odd file and what must become of it.
struct CorruptCase {
  std::string name;
  Bytes bytes;
  Verdict verdict = Verdict::accepted;
  ErrorCode code = ErrorCode::malformed;  ///< of a refusal
  std::string tensor;                     ///< that a refusal names; empty: none
  std::optional<std::uint64_t> offset;    ///< that a refusal gives; unset: it must give some
  std::string finding;                    ///< code of the finding
  bool is_refused_by_owner = true;        ///< the format's own reader refuses it; as a rule where we do

  static CorruptCase refused(std::string name, Bytes bytes, std::string tensor = {},
                             std::optional<std::uint64_t> offset = {}) {
    return {
        std::move(name), std::move(bytes), Verdict::refused, ErrorCode::malformed, std::move(tensor), offset, {}, true};
  }
  static CorruptCase unsupported(std::string name, Bytes bytes, std::string tensor = {},
                                 std::optional<std::uint64_t> offset = {}) {
    return {std::move(name),
            std::move(bytes),
            Verdict::refused,
            ErrorCode::unsupported,
            std::move(tensor),
            offset,
            {},
            true};
  }
  static CorruptCase accepted(std::string name, Bytes bytes) {
    return {std::move(name), std::move(bytes), Verdict::accepted, ErrorCode::malformed, {}, {}, {}, false};
  }
  static CorruptCase with_finding(std::string name, Bytes bytes, std::string finding) {
    return {std::move(name),
            std::move(bytes),
            Verdict::accepted_with_finding,
            ErrorCode::malformed,
            {},
            {},
            std::move(finding),
            false};
  }
  /// The owner of the format reads it where we do not, or the other way round.
  CorruptCase&& unlike_its_owner() && {
    is_refused_by_owner = !is_refused_by_owner;
    return std::move(*this);
  }
};

inline void PrintTo(const CorruptCase& corrupt, std::ostream* out) { *out << corrupt.name; }

/// Sets one byte of a file in place; writing thousands of files anew would take the disk, and not us, seconds.
inline void set_byte(const std::filesystem::path& path, std::size_t at, std::byte value) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(static_cast<char>(value));
  if (!file) throw std::runtime_error("cannot change " + path.native());
}

/// Reads every byte of every tensor.
inline void read_everything(const Checkpoint& checkpoint) {
  for (const Tensor& tensor : checkpoint.tensors) {
    for (const Part& part : tensor.parts) {
      const RowSource& rows = *part.rows;
      if (rows.rows() > 0) read_part(part, std::max<std::int64_t>(1, rows.rows() / 3));
    }
  }
}

/// Opens a file and holds the outcome, and the memory it took, against the case. Reading all data of what was accepted
/// stays inside the file.
inline void check_case(const Format& format, const CorruptCase& corrupt, const std::filesystem::path& path) {
  write_whole_file(path, corrupt.bytes);
  // What we make of a header takes a few times its bytes; the constant is for buffers and messages.
  const std::size_t allowed = 16 * corrupt.bytes.size() + (std::size_t{1} << 20);
  const AllocationWatch watch;
  try {
    const Checkpoint checkpoint = format.open(probe(path), {});
    EXPECT_LE(watch.largest(), allowed);
    read_everything(checkpoint);
    ASSERT_NE(corrupt.verdict, Verdict::refused) << "opened";
    if (corrupt.verdict == Verdict::accepted) {
      EXPECT_TRUE(checkpoint.findings.empty()) << checkpoint.findings.front().code;
    } else {
      EXPECT_TRUE(has_finding(checkpoint, corrupt.finding));
    }
  } catch (const Error& error) {
    EXPECT_LE(watch.largest(), allowed);
    ASSERT_EQ(corrupt.verdict, Verdict::refused) << error.what();
    EXPECT_EQ(error.code(), corrupt.code) << error.what();
    EXPECT_EQ(error.file(), path.native()) << error.what();
    EXPECT_EQ(error.tensor_name(), corrupt.tensor) << error.what();
    ASSERT_TRUE(error.byte_offset().has_value()) << error.what();
    EXPECT_EQ(*error.byte_offset(), corrupt.offset.value_or(*error.byte_offset())) << error.what();
    EXPECT_LT(error.message().size(), 1000U);
  }
}

}  // namespace regauge::testing
