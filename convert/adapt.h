#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "convert/factors.h"
#include "convert/options.h"
#include "ir/checkpoint.h"
#include "ir/slot.h"
#include "ir/view.h"
#include "models/architecture.h"
#include "models/low_rank.h"

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
  bool with_low_rank = false;             ///< its values are decode + B * A
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
  bool is_linear = false;          ///< the matrix of a module that quantizers take
  std::optional<DType> usual;      ///< as the target's own authors store it, where the source was made to store another
  bool rounds_by_dialect = false;  ///< the target's own converter rounds here, and its runtimes expect that
  bool is_transposed = false;      ///< stored as [columns, rows]: low-rank factors in some forms
  bool is_bare() const { return pieces.size() == 1 && pieces.front().view.is_identity(); }
};

struct OutputDraft {
  OutputKind kind = OutputKind::model;
  std::vector<Target> targets;
};

struct LeftOut {
  std::string name;  ///< of the source tensor
  std::string reason;
  const Tensor* corrected = nullptr;     ///< set when it is the low-rank factors of this tensor that are left out
  std::optional<LowRankNorm> norm = {};  ///< what they come to; plans have it
};

/// Names and conventions carried over to the target dialect, nothing yet decided about encodings.
struct Adaptation {
  std::vector<OutputDraft> outputs;  ///< the model first
  std::vector<LeftOut> left_out;
  std::vector<std::string> tied_copies;  ///< heads of a model whose head is its embedding: no weights, so not written
  int mtp_layers = 0;                    ///< counted from the tensors that are there
  /// Column orders that make act-order modules contiguous, by the module's canonical weight name; see convert/fold.h.
  std::map<std::string, std::vector<std::int32_t>> permutations;
  /// Tensors that no file holds as they are: values which the source carries for the way back, low-rank factors.
  std::vector<std::unique_ptr<const Tensor>> restored;
  FactorForm factor_form = FactorForm::peft;
  std::vector<CorrectedModule> corrected;  ///< modules whose factors are among the targets, by name
  FactorRanks factor_ranks;                ///< of modules whose factors were filled up with zeros to a common rank
};

/// One opened path: a checkpoint may be spread over several (model, mmproj, adapter).
struct OpenedPath {
  const Checkpoint* checkpoint = nullptr;
  const Architecture* architecture = nullptr;  ///< null when it is not known
  std::optional<Component> only = {};          ///< take nothing but this part of it
  std::set<Component> without = {};            ///< take everything but these parts, in a dialect's names
};

/// A target that is one whole tensor under its own name and shape, which must outlive it.
Target as_it_is(const Tensor& tensor);

/// The low-rank factors of a checkpoint as targets in `dialect`, its own: in its model output, or an adapter of a GGUF.
Adaptation adapt_factors(const OpenedPath& path, Dialect dialect, const ConvertOptions& options);

/// Maps every tensor of `sources`, together one model, to arrays in `dialect`, named by `names`. Without an architecture, or when the source speaks the dialect
/// already, names and shapes stay as they are. Throws Error{refused} with the offenders when tensors would be lost that
/// `options` does not allow to drop, Error{unsupported} for an unknown architecture in a target that needs one, and
/// Error{malformed} when weights are missing that the target's loaders demand. All must outlive the
/// result.
Adaptation adapt(std::span<const OpenedPath> sources, const Architecture* names, Dialect dialect,
                 const ConvertOptions& options);

}  // namespace regauge
