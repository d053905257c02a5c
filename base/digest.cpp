#include "base/digest.h"

#include <algorithm>
#include <charconv>
#include <new>

#include <fmt/format.h>
#include <openssl/evp.h>
#include <xxhash.h>

#include "base/error.h"

namespace regauge {
namespace {

void check(int openssl_result) {
  if (openssl_result != 1) throw Error(ErrorCode::internal, "libcrypto refuses to compute a digest");
}

EVP_MD_CTX* context_of(void* pointer) { return static_cast<EVP_MD_CTX*>(pointer); }

}  // namespace

std::string hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) {
    const auto value = std::to_integer<unsigned>(byte);
    out += kDigits[value >> 4];
    out += kDigits[value & 15U];
  }
  return out;
}

std::string hex(std::uint64_t digest) { return fmt::format("{:016x}", digest); }

std::string hex(const Digest128& digest) { return fmt::format("{:016x}{:016x}", digest.high, digest.low); }

std::optional<Digest128> digest128_from_hex(std::string_view digits) {
  constexpr std::size_t kHalf = 16;
  if (digits.size() != 2 * kHalf) return std::nullopt;
  const bool lower =
      std::ranges::all_of(digits, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (!lower) return std::nullopt;
  Digest128 digest;
  std::from_chars(digits.data(), digits.data() + kHalf, digest.high, 16);
  std::from_chars(digits.data() + kHalf, digits.data() + 2 * kHalf, digest.low, 16);
  return digest;
}

Xxh3_128::Xxh3_128() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_.get()));
}

void Xxh3_128::Free::operator()(void* state) const noexcept { XXH3_freeState(static_cast<XXH3_state_t*>(state)); }

void Xxh3_128::update(std::span<const std::byte> bytes) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_.get()), bytes.data(), bytes.size());
}

Digest128 Xxh3_128::value() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_.get()));
  return {.high = hash.high64, .low = hash.low64};
}

Digest128 Xxh3_128::of(std::span<const std::byte> bytes) noexcept {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {.high = hash.high64, .low = hash.low64};
}

Xxh64::Xxh64() : state_(XXH64_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH64_reset(static_cast<XXH64_state_t*>(state_.get()), 0);
}

void Xxh64::Free::operator()(void* state) const noexcept { XXH64_freeState(static_cast<XXH64_state_t*>(state)); }

void Xxh64::update(std::span<const std::byte> bytes) {
  XXH64_update(static_cast<XXH64_state_t*>(state_.get()), bytes.data(), bytes.size());
}

std::uint64_t Xxh64::value() const { return XXH64_digest(static_cast<const XXH64_state_t*>(state_.get())); }

std::uint64_t Xxh64::of(std::span<const std::byte> bytes) noexcept { return XXH64(bytes.data(), bytes.size(), 0); }

EvpDigest::EvpDigest(Algorithm algorithm) : context_(EVP_MD_CTX_new()) {
  if (!context_) throw std::bad_alloc();
  const EVP_MD* method = algorithm == Algorithm::sha1 ? EVP_sha1() : EVP_sha256();
  check(EVP_DigestInit_ex(context_of(context_.get()), method, nullptr));
}

void EvpDigest::Free::operator()(void* context) const noexcept { EVP_MD_CTX_free(context_of(context)); }

void EvpDigest::update(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(context_of(context_.get()), bytes.data(), bytes.size()));
}

void EvpDigest::finish_copy(std::span<std::byte> out) const {
  // Finishing closes a context for good, so it is done on a copy.
  const std::unique_ptr<void, Free> copy(EVP_MD_CTX_new());
  if (!copy) throw std::bad_alloc();
  check(EVP_MD_CTX_copy_ex(context_of(copy.get()), context_of(context_.get())));
  unsigned written = 0;
  check(EVP_DigestFinal_ex(context_of(copy.get()), reinterpret_cast<unsigned char*>(out.data()), &written));
  if (written != out.size())
    throw Error(ErrorCode::internal, "a digest has {} bytes instead of {}", written, out.size());
}

Sha1::Value Sha1::value() const {
  Value out;
  finish_copy(out);
  return out;
}

Sha1::Value Sha1::of(std::span<const std::byte> bytes) {
  Sha1 digest;
  digest.update(bytes);
  return digest.value();
}

Sha256::Value Sha256::value() const {
  Value out;
  finish_copy(out);
  return out;
}

Sha256::Value Sha256::of(std::span<const std::byte> bytes) {
  Sha256 digest;
  digest.update(bytes);
  return digest.value();
}

}  // namespace regauge
