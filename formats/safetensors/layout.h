#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "formats/format.h"
#include "formats/positional_file.h"

namespace regauge::safetensors {

/// How the writers of safetensors files differ.
struct FileStyle {
  enum class Data : std::uint8_t {
    by_dtype,  ///< by falling dtype rank, then by name: the reference serialiser, and every array aligned without gaps
    as_given,  ///< in the order of begin(): GPTQModel, and MLX, whose own order is that of a hash table
  };
  enum class Keys : std::uint8_t {
    by_place,  ///< `__metadata__`, then the arrays as their data lie; fields as dtype, shape, data_offsets
    sorted,    ///< all of them bytewise, and those of an entry: MLX
  };

  std::string_view mark = "pt";  ///< "format" of `__metadata__` where begin() gets none; empty: `__metadata__` is null
  Data data = Data::by_dtype;
  Keys keys = Keys::by_place;
  bool is_padded = true;  ///< the header, with spaces to a multiple of 8; MLX does not
};

/// The layout of one file. Throws Error{unsupported} for what a safetensors file cannot hold, Error{invalid} for two arrays
/// of one name and for more bytes than a file can have.
FileLayout lay_out(const Metadata& metadata, std::span<const ArrayPlan> arrays, const FileStyle& style);

}  // namespace regauge::safetensors
