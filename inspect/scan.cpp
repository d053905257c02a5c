#include "inspect/scan.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/buffer.h"
#include "base/error.h"
#include "inspect/bands.h"
#include "ir/decode/dense.h"
#include "ir/decode/tensor.h"

namespace regauge::inspect {
namespace {

struct Tested {
  std::uint64_t nan = 0;
  std::uint64_t infinite = 0;
  double sum = 0;
  std::uint64_t count = 0;

  void add(std::span<const float> values) noexcept {
    for (const float value : values) {
      if (std::isnan(value)) {
        ++nan;
      } else if (std::isinf(value)) {
        ++infinite;
      } else {
        sum += static_cast<double>(value);
      }
    }
    count += values.size();
  }
};

Tested test_part(const Part& part) {
  Tested tested;
  Buffer<float> values;
  const auto bits_per_element = static_cast<std::size_t>(bits(part.dtype));
  for_each_band(*part.rows, [&](std::span<const std::byte> bytes) {
    values.resize(bytes.size() * 8 / bits_per_element);
    decode_dense(part.dtype, bytes, values);
    tested.add(values);
  });
  return tested;
}

Tested test_values(const Tensor& tensor) {
  Tested tested;
  for_each_value_band(tensor, [&tested](std::span<const float> values) { tested.add(values); });
  return tested;
}

bool zeros_are_mid(const Part& zeros, int code_bits) {
  const auto mid = static_cast<std::byte>(1U << (code_bits - 1));
  bool all = true;
  for_each_band(*zeros.rows, [&](std::span<const std::byte> bytes) {
    all = all && std::ranges::all_of(bytes, [mid](std::byte b) { return b == mid; });
  });
  return all;
}

class Scanner {
 public:
  Scanner(const Checkpoint& checkpoint, const Architecture* architecture)
      : checkpoint_(checkpoint), architecture_(architecture) {}

  void look_at(const Entry& entry) {
    const Tensor& tensor = checkpoint_.tensors[entry.tensor];
    if (!is_decodable(tensor.encoding)) {
      report_.opaque.push_back(entry.tensor);
      return;
    }
    try {
      if (const auto* grouped = std::get_if<Grouped>(&tensor.encoding)) {
        look_at_grouped(entry, tensor, *grouped);
      } else {
        const Tested tested = test_values(tensor);
        keep(entry, tensor.find(PartId::blocks) != nullptr ? PartId::blocks : PartId::values, tested);
        keep_norm(entry, tensor, tested);
      }
      for (const PartId id : {PartId::lowrank_a, PartId::lowrank_b}) {
        if (const Part* part = tensor.find(id)) keep(entry, id, test_part(*part));
      }
      ++report_.tensors_read;
      report_.bytes_read += entry.bytes + entry.factor_bytes;
    } catch (const Error& error) {
      report_.unread.push_back(fmt::format("{}: {}", tensor.name, error.message()));
    }
  }

  ScanReport take() { return std::move(report_); }

 private:
  void look_at_grouped(const Entry& entry, const Tensor& tensor, const Grouped& encoding) {
    if (tensor.find(PartId::group_index) != nullptr) {
      ++report_.indexed;
      if (!group_index_is_trivial(tensor)) report_.act_order.push_back(entry.tensor);
    }
    if (const Part* zeros = tensor.find(PartId::zeros); zeros != nullptr && zeros->dtype == DType::u8) {
      ++report_.with_zeros;
      if (!zeros_are_mid(*zeros, encoding.bits)) report_.asymmetric.push_back(entry.tensor);
    }
    // The scales of MX and NVFP4 modules are bytes whose corner cases are the decoder's business: look at values there.
    if (encoding.scale == DType::u8) {
      keep(entry, PartId::scales, test_values(tensor));
      return;
    }
    for (const PartId id : {PartId::scales, PartId::biases, PartId::global_scale}) {
      if (const Part* part = tensor.find(id)) keep(entry, id, test_part(*part));
    }
  }

  void keep(const Entry& entry, PartId part, const Tested& tested) {
    if (tested.nan + tested.infinite == 0) return;
    report_.non_finite.push_back({entry.tensor, std::string(name(part)), tested.nan, tested.infinite});
  }

  void keep_norm(const Entry& entry, const Tensor& tensor, const Tested& tested) {
    if (architecture_ == nullptr || !entry.assembly || tested.count == 0 || tensor.shape.rank() != 1) return;
    const Slot& slot = entry.assembly->pieces.front().slot;
    // Only the norms that the effective form shows as 1 + w come in two conventions.
    if (architecture_->effective(slot).elementwise != Elementwise::add_one) return;
    const double mean = tested.sum / static_cast<double>(tested.count);
    const bool stored = architecture_->stored_convention(slot).elementwise == Elementwise::add_one;
    report_.norms.push_back({entry.tensor, mean, std::abs(mean - 1) < std::abs(mean), stored});
  }

  const Checkpoint& checkpoint_;
  const Architecture* architecture_;
  ScanReport report_;
};

}  // namespace

ScanReport scan(const Checkpoint& checkpoint, const Architecture* architecture, const Catalog& catalog,
                const ScanProgress& progress) {
  std::uint64_t total = 0;
  for (const Entry& entry : catalog.entries) total += entry.bytes + entry.factor_bytes;
  std::uint64_t done = 0;
  Scanner scanner(checkpoint, architecture);
  for (const Entry& entry : catalog.entries) {
    scanner.look_at(entry);
    done += entry.bytes + entry.factor_bytes;
    if (progress) progress(done, total);
  }
  return scanner.take();
}

}  // namespace regauge::inspect
