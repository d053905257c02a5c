#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace regauge {

/// Lower-case hexadecimal, two digits a byte, in memory order.
std::string hex(std::span<const std::byte> bytes);

/// A 128-bit digest as a number; ordered and printed as one.
struct Digest128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  // NOLINTNEXTLINE(modernize-use-nullptr): takes the 0 of a defaulted comparison for a pointer
  auto operator<=>(const Digest128&) const = default;
};

/// 16 digits, most significant first, as `xxhsum -H64` prints it.
std::string hex(std::uint64_t digest);
/// 32 digits, most significant first, as `xxhsum -H128` prints it.
std::string hex(const Digest128& digest);
/// The digest that has these 32 digits, or nothing when they are not that.
std::optional<Digest128> digest128_from_hex(std::string_view digits);

// Streaming digests share one shape: update() in any pieces, then value() of everything so far, which leaves the state
// open for more. Objects are movable and belong to one thread at a time; of() is the whole thing in one call.

/// XXH3, 128 bits, no seed and no secret.
class Xxh3_128 {  // NOLINT(readability-identifier-naming): XXH3-128 reads as one name
 public:
  Xxh3_128();
  void update(std::span<const std::byte> bytes);
  Digest128 value() const;
  static Digest128 of(std::span<const std::byte> bytes) noexcept;

 private:
  struct Free {
    void operator()(void* state) const noexcept;
  };
  std::unique_ptr<void, Free> state_;
};

/// XXH64 with seed 0: the default digest of llama-gguf-hash.
class Xxh64 {
 public:
  Xxh64();
  void update(std::span<const std::byte> bytes);
  std::uint64_t value() const;
  static std::uint64_t of(std::span<const std::byte> bytes) noexcept;

 private:
  struct Free {
    void operator()(void* state) const noexcept;
  };
  std::unique_ptr<void, Free> state_;
};

/// What Sha1 and Sha256 share: an OpenSSL digest context. Throws Error{internal} when libcrypto refuses the algorithm.
class EvpDigest {
 public:
  void update(std::span<const std::byte> bytes);

 protected:
  enum class Algorithm : std::uint8_t { sha1, sha256 };
  explicit EvpDigest(Algorithm algorithm);
  /// Fills `out`, which has exactly the digest's size, with the digest of everything so far.
  void finish_copy(std::span<std::byte> out) const;

 private:
  struct Free {
    void operator()(void* context) const noexcept;
  };
  std::unique_ptr<void, Free> context_;
};

class Sha1 : public EvpDigest {
 public:
  using Value = std::array<std::byte, 20>;
  Sha1() : EvpDigest(Algorithm::sha1) {}
  Value value() const;
  static Value of(std::span<const std::byte> bytes);
};

class Sha256 : public EvpDigest {
 public:
  using Value = std::array<std::byte, 32>;
  Sha256() : EvpDigest(Algorithm::sha256) {}
  Value value() const;
  static Value of(std::span<const std::byte> bytes);
};

}  // namespace regauge
