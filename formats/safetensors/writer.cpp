#include "formats/safetensors/writer.h"

#include <fmt/format.h>

#include "base/limits.h"
#include "base/text.h"
#include "formats/positional_writer.h"
#include "formats/safetensors/header.h"

namespace regauge::safetensors {
namespace {

class FileWriter final : public PositionalWriter {
 public:
  FileWriter(const std::filesystem::path& target, const WriteOptions& options, const FileStyle& style)
      : PositionalWriter(target, options), style_(style) {}

  void begin(const Metadata& metadata, std::span<const ArrayPlan> arrays) override {
    start(lay_out(metadata, arrays, style_));
  }

 private:
  FileStyle style_;
};

}  // namespace

std::optional<std::string> can_hold(const ArrayPlan& array) {
  const auto* dtype = std::get_if<DType>(&array.element);
  if (dtype == nullptr) {
    return fmt::format("safetensors has no dtype for {} blocks", name(std::get<BlockType>(array.element)));
  }
  if (array.name == "__metadata__") return "the name __metadata__ is taken by the header";
  if (!is_utf8(array.name)) return "the name is not UTF-8";
  if (const char* fault = name_fault(array.name)) return fmt::format("the name {}", fault);
  if (array.shape.rank() > kMaxDims) return fmt::format("more than {} dimensions", kMaxDims);
  const auto elements = array.shape.checked_elements();
  if (!elements || !storage_bytes(*dtype, static_cast<std::uint64_t>(*elements))) {
    return fmt::format("{} of shape {} is no whole number of bytes", name(*dtype), to_string(array.shape));
  }
  return std::nullopt;
}

std::unique_ptr<Writer> create_writer(const std::filesystem::path& target, const WriteOptions& options,
                                      const FileStyle& style) {
  return std::make_unique<FileWriter>(target, options, style);
}

}  // namespace regauge::safetensors
