#include "convert/fingerprint.h"

#include <algorithm>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace regauge {
namespace {

/// A digest over values, each preceded by its length where it has one, so that no two lists of values run into the same
/// bytes.
class Sum {
 public:
  template <typename T>
    requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  Sum& add(T value) {
    digest_.update(std::as_bytes(std::span(&value, 1)));
    return *this;
  }
  Sum& add(std::string_view text) {
    add(static_cast<std::uint64_t>(text.size()));
    digest_.update(bytes_of(text));
    return *this;
  }
  Sum& add(const Shape& shape) {
    add(static_cast<std::uint64_t>(shape.dims.size()));
    for (const std::int64_t dim : shape.dims) add(dim);
    return *this;
  }
  template <typename T>
  Sum& add(const std::vector<T>& values) {
    add(static_cast<std::uint64_t>(values.size()));
    for (const T& value : values) add(value);
    return *this;
  }
  Sum& add(const MetaArray& array) {
    add(array.element);
    std::visit([this](const auto& values) { add(values); }, array.values);
    return *this;
  }
  Sum& raw(std::span<const std::byte> bytes) {
    digest_.update(bytes);
    return *this;
  }
  Digest128 value() const { return digest_.value(); }

 private:
  Xxh3_128 digest_;
};

void add_file(Sum& sum, std::string_view name, const File& file) {
  sum.add(name).add(file.size()).add(file.modified_ns());
}

void add_header(Sum& sum, const SourceFile& file) {
  constexpr std::uint64_t kPieceBytes = 1 << 20;
  std::vector<std::byte> piece;
  for (std::uint64_t at = 0; at < file.data_offset; at += kPieceBytes) {
    piece.resize(static_cast<std::size_t>(std::min(kPieceBytes, file.data_offset - at)));
    file.file->read_at(at, piece);
    sum.raw(piece);
  }
}

void add_sidecar(Sum& sum, const Checkpoint& source, const Sidecar& sidecar) {
  try {
    add_file(sum, sidecar.name, *open_sidecar(source, sidecar.name));
  } catch (const Error&) {
    // Nobody has to be able to read a file that the conversion may not need; that it cannot be read is its state.
    sum.add(sidecar.name).add("unreadable");
  }
}

void add_source(Sum& sum, const Checkpoint& source) {
  sum.add(source.format).add(source.format_version);
  sum.add(static_cast<std::uint64_t>(source.files.size()));
  for (const SourceFile& file : source.files) {
    add_file(sum, file.name, *file.file);
    add_header(sum, file);
  }
  sum.add(static_cast<std::uint64_t>(source.sidecars.size()));
  for (const Sidecar& sidecar : source.sidecars) add_sidecar(sum, source, sidecar);
}

Digest128 digest_of_sources(const Plan& plan) {
  Sum sum;
  for (const Checkpoint* source : plan.sources) add_source(sum, *source);
  return sum.value();
}

void add_carried(Sum& sum, const CarriedFile& carried) {
  sum.add(carried.name).add(carried.content.index());
  if (const auto* text = std::get_if<std::string>(&carried.content)) {
    sum.add(*text);
  } else {
    add_file(sum, carried.name, *std::get<std::shared_ptr<const File>>(carried.content));
  }
}

void add_step(Sum& sum, const Step& step) {
  sum.add(step.name).add(step.shape).add(step.source_encoding).add(step.encoding);
  sum.add(step.route).add(step.fidelity).add(step.reason).add(step.quantum);
  sum.add(static_cast<std::uint64_t>(step.arrays.size()));
  for (const StepArray& array : step.arrays) {
    sum.add(array.plan.name).add(array.plan.shape).add(array.layout).add(array.plan.element.index());
    std::visit([&](auto element) { sum.add(element); }, array.plan.element);
  }
}

Digest128 digest_of(const Plan& plan, const ConvertOptions& options) {
  Sum sum;
  sum.add(plan.format).add(options.shard_bytes);
  for (const PlannedOutput& output : plan.outputs) {
    sum.add(output.kind).add(output.path.filename().native()).add(output.directory);
    sum.add(static_cast<std::uint64_t>(output.files.size()));
    for (const CarriedFile& file : output.files) add_carried(sum, file);
    sum.add(static_cast<std::uint64_t>(output.metadata.entries().size()));
    for (const auto& [key, value] : output.metadata.entries()) {
      sum.add(key).add(value.index());
      std::visit([&](const auto& alternative) { sum.add(alternative); }, value);
    }
    sum.add(static_cast<std::uint64_t>(output.steps.size()));
    for (const Step& step : output.steps) add_step(sum, step);
  }
  return sum.value();
}

}  // namespace

Fingerprint fingerprint_of(const Plan& plan, const ConvertOptions& options) {
  return {.program = REGAUGE_VERSION, .source = digest_of_sources(plan), .plan = digest_of(plan, options)};
}

std::string difference(const Fingerprint& then, const Fingerprint& now) {
  std::string out;
  const auto note = [&](std::string_view clause) { out += (out.empty() ? "" : " and ") + std::string(clause); };
  if (then.program != now.program) {
    note("it was written by regauge " + then.program + ", this is " + now.program);
  }
  if (then.source != now.source) note("the source has changed");
  if (then.plan != now.plan) note("other options or another plan were asked for");
  return out;
}

}  // namespace regauge
