#pragma once

#include <string>
#include <vector>

#include "convert/adapt.h"
#include "convert/options.h"
#include "models/architecture.h"

namespace regauge {

/// What --drop permits to leave behind, or the reason to refuse.
class Dropping {
 public:
  /// Notes in `left_out` what is left. Both must outlive the object.
  Dropping(const ConvertOptions& options, std::vector<LeftOut>& left_out) : options_(options), left_out_(left_out) {}

  /// Whether a tensor of the architecture is left out.
  bool drops(const Slot& slot, const Tensor& tensor, const Architecture& architecture);
  /// A tensor that the architecture does not know.
  void foreign(const Tensor& tensor);
  /// A tensor that has no name in the target's dialect.
  void no_place(const Tensor& tensor) { no_place_.push_back(tensor.name); }

  /// Throws Error{refused}, naming the tensors, where one that must not be lost has nowhere to go.
  void check(Dialect dialect) const;

 private:
  bool leave(const Tensor& tensor, std::string reason);

  const ConvertOptions& options_;
  std::vector<LeftOut>& left_out_;
  std::vector<std::string> foreign_;
  std::vector<std::string> no_place_;
};

}  // namespace regauge
