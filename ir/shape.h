#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace regauge {

/// Dimensions in row-major order, slowest first, as Hugging Face writes them (GGUF files list them the other way round).
/// Rank 0 is a scalar.
struct Shape {
  std::vector<std::int64_t> dims;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> list) : dims(list) {}
  explicit Shape(std::vector<std::int64_t> list) : dims(std::move(list)) {}

  std::size_t rank() const noexcept { return dims.size(); }
  /// Number of elements; nothing when it leaves int64 or a dimension is negative. Readers check this once, at the door.
  std::optional<std::int64_t> checked_elements() const;
  /// As above for shapes that a reader has passed; throws Error{internal} otherwise.
  std::int64_t elements() const;

  /// The same data as a matrix: `columns` is the last dimension, `rows` the product of the others. A vector is one row,
  /// a scalar is 1 x 1.
  std::int64_t rows() const;
  std::int64_t columns() const noexcept { return dims.empty() ? 1 : dims.back(); }

  bool operator==(const Shape&) const = default;
};

/// "[5120, 17408]"
std::string to_string(const Shape& shape);

}  // namespace regauge
