#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "convert/options.h"
#include "ir/checkpoint.h"
#include "ir/slot.h"
#include "ir/view.h"
#include "models/architecture.h"

namespace regauge {

/// A stretch of target rows and where it comes from. Read right to left: take `rows` (and `columns`) of the source
/// tensor, seen as a matrix of `source_columns` columns, then apply `view`.
struct TargetPiece {
  const Tensor* tensor = nullptr;
  std::int64_t source_columns = 0;  ///< columns of the matrix that `rows` counts in
  RowRange rows;                    ///< of the source
  std::optional<AxisMap> columns;   ///< of the source; absent: all
  View view;                        ///< source convention to target convention
  std::int64_t target_row = 0;      ///< first row of the target matrix that this piece fills
  std::int64_t target_rows = 0;
  std::optional<AxisMap> target_columns;  ///< where its columns go; absent: the piece is as wide as the target
  std::string canonical;                  ///< the slot's canonical name, or the tensor's own
};

/// One array of an output, before anybody chose its encoding.
struct Target {
  std::string name;
  Shape shape;
  std::int64_t rows = 0;  ///< the matrix that pieces fill; rows * columns == shape.elements()
  std::int64_t columns = 0;
  std::vector<TargetPiece> pieces;  ///< tile the matrix, in row order
  std::optional<DType> required;    ///< a dense type that the target's loaders insist on
  Component component = Component::other;
  bool is_linear = false;  ///< the matrix of a module that quantizers take
  bool is_bare() const { return pieces.size() == 1 && pieces.front().view.is_identity(); }
};

struct OutputDraft {
  OutputKind kind = OutputKind::model;
  std::vector<Target> targets;
};

struct LeftOut {
  std::string name;  ///< of the source tensor
  std::string reason;
};

/// Names and conventions carried over to the target dialect, nothing yet decided about encodings.
struct Adaptation {
  std::vector<OutputDraft> outputs;  ///< the model first
  std::vector<LeftOut> left_out;
  int mtp_layers = 0;  ///< counted from the tensors that are there
};

/// A target that is one whole tensor under its own name and shape, which must outlive it.
Target as_it_is(const Tensor& tensor);

/// Maps every tensor of `source` to arrays in `dialect`. Without an architecture, or when the source speaks the dialect
/// already, names and shapes stay as they are. Throws Error{refused} with the offenders when tensors would be lost that
/// `options` does not allow to drop, Error{unsupported} for an unknown architecture in a target that needs one, and
/// Error{malformed} when weights are missing that the target's loaders demand. `source` and `architecture` must outlive
/// the result.
Adaptation adapt(const Checkpoint& source, const Architecture* architecture, Dialect dialect,
                 const ConvertOptions& options);

}  // namespace regauge
