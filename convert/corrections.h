#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "convert/adapt.h"

namespace regauge {

/// Low-rank factors on their way to a target: kept, merged into their weights or left out, as the options say. Factors of
/// weights that the target stacks are stacked too, and those of smaller rank filled up with zeros, which change no product:
/// the ranks that they had go along (models/low_rank.h).
class Corrections {
 public:
  /// All must outlive it.
  Corrections(const ConvertOptions& options, FactorForm form, Adaptation& result)
      : options_(options), form_(form), result_(result) {}

  /// Decides about the factors of `piece`'s tensor, if it has any. `weight` is the array that the piece fills, alone or as
  /// one of several: its name, shape and rows are looked at.
  void take(TargetPiece& piece, const Target& weight);

  /// Adds the factors that are kept to the outputs. Throws Error{refused} when a form has no place for some.
  void finish();

 private:
  /// The factors of one weight: of all of a tensor, or of one of those that it stacks.
  struct Unit {
    const Tensor* tensor = nullptr;
    std::int64_t group = 0;
    std::int64_t rank = 0;
    RowRange rows;  ///< of the tensor
    View view;      ///< of the weight
    std::string canonical;
    std::int64_t target_row = 0;
  };
  /// All that belongs to one array of the target.
  struct Module {
    Shape shape;
    std::int64_t rows = 0;
    std::vector<Unit> units;
  };

  void keep(const TargetPiece& piece, const Target& weight);
  bool fits(const Module& module) const;
  void add(const std::string& weight, Module& module, std::int64_t rank, std::vector<Target>& targets);
  Target factor_target(const std::string& weight, const Module& module, std::int64_t rank, PartId id);
  TargetPiece factor_piece(const Unit& unit, PartId id);
  TargetPiece zeros(const Unit& like, PartId id, std::int64_t rows, std::int64_t columns);
  const Tensor& factor_of(const Tensor& tensor, PartId id);
  const Tensor& own(Tensor tensor);

  const ConvertOptions& options_;
  FactorForm form_;
  Adaptation& result_;
  std::map<std::string, Module> modules_;
  std::set<const Tensor*> dropped_;
  std::map<std::pair<const Tensor*, PartId>, const Tensor*> factors_;
};

}  // namespace regauge
