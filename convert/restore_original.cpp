#include "convert/restore_original.h"

#include <cstdint>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "convert/adapt.h"
#include "convert/route/reencode_dense.h"
#include "models/original_values.h"

namespace regauge {

std::unique_ptr<const Tensor> restore_original(const Checkpoint& source, const Tensor& stored,
                                               const std::string& canonical, const View& convention) {
  const auto type = source.metadata.get_string(original_type_key(canonical));
  const MetaArray* bytes = source.metadata.get_array(original_values_key(canonical));
  if (!type || bytes == nullptr) return nullptr;
  const auto dtype = dtype_from_name(*type);
  const auto* raw = std::get_if<std::vector<std::uint8_t>>(&bytes->values);
  const std::int64_t elements = stored.shape.elements();
  if (!dtype || raw == nullptr || storage_bytes(*dtype, static_cast<std::uint64_t>(elements)) != raw->size() ||
      !is_float(*dtype)) {
    return nullptr;
  }
  const auto data = std::as_bytes(std::span(*raw));
  auto original = std::make_unique<Tensor>();
  original->name = canonical;
  original->shape = Shape{elements};
  original->encoding = Dense{*dtype};
  original->parts.push_back(
      {PartId::values, *dtype, Shape{elements},
       std::make_shared<MemoryRows>(std::vector<std::byte>(data.begin(), data.end()), 1, raw->size())});
  Target forward = as_it_is(*original);
  forward.pieces.front().view = convention;
  return same_values(forward, as_it_is(stored)) ? std::move(original) : nullptr;
}

}  // namespace regauge
