#include "convert/verify_band.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/route/reencode_dense.h"
#include "tests/support/tensors.h"
#include "tests/unit/convert/targets.h"

namespace regauge {
namespace {

/// One array in memory.
class MemoryWriter final : public Writer {
 public:
  Order order() const noexcept override { return Order::any; }
  void begin(const Metadata&, std::span<const ArrayPlan> arrays) override { bytes.resize(arrays.front().bytes()); }
  void put(std::size_t, std::uint64_t offset, std::span<const std::byte> from) override {
    std::ranges::copy(from, bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  void read_back(std::size_t, std::uint64_t offset, std::span<std::byte> out) const override {
    std::memcpy(out.data(), bytes.data() + offset, out.size());
  }
  void seal() override {}
  void commit() override {}
  std::filesystem::path sealed_path() const override { return {}; }
  std::uint64_t file_bytes() const override { return bytes.size(); }

  std::vector<std::byte> bytes;
};

/// The honest route to F32, but for what `lie` does to its values.
class Dishonest final : public RowMaker {
 public:
  using Lie = std::function<void(std::span<float>)>;
  Dishonest(const Target& target, Lie lie) : honest_(make_dense(target, DType::f32)), lie_(std::move(lie)) {}
  std::int64_t band_rows() const override { return honest_->band_rows(); }
  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss& loss) const override {
    honest_->make(rows, out, scratch, loss);
    std::vector<float> values(out.front().size() / sizeof(float));
    std::memcpy(values.data(), out.front().data(), out.front().size());
    lie_(values);
    std::memcpy(out.front().data(), values.data(), out.front().size());
  }
  void decode(RowRange rows, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    honest_->decode(rows, stored, scratch, out);
  }

 private:
  RowMakerPtr honest_;
  Lie lie_;
};

class VerifyBand : public ::testing::Test {
 protected:
  // Rows 0 to 3, columns 0 to 7: value = 8 * row + column + 1, a negative zero and a NaN.
  VerifyBand() {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] = static_cast<float>(i + 1);
    values_[9] = 0.0F;
    values_[10] = std::numeric_limits<float>::quiet_NaN();
    tensor_ = testing::dense_tensor("w", Shape{4, 8}, values_);
  }

  /// Makes rows 2 and 3 with such a maker, harms what was written, and checks.
  void check(Fidelity promised, double worst, Dishonest::Lie lie, const std::function<void(MemoryWriter&)>& harm = {}) {
    Plan plan;
    PlannedOutput& output = plan.outputs.emplace_back();
    output.targets.push_back(testing::whole(tensor_));
    Step& step = output.steps.emplace_back();
    step.name = "w";
    step.arrays.push_back({{"w", DType::f32, Shape{4, 8}}, BandLayout::rows});
    step.fidelity = promised;
    step.maker = std::make_unique<Dishonest>(output.targets.front(), std::move(lie));

    MemoryWriter writer;
    writer.begin({}, std::vector<ArrayPlan>{step.arrays.front().plan});
    const Band band{0, 0, {0, 4}};
    std::vector<std::byte> made(4 * 8 * sizeof(float));
    const std::span<std::byte> view(made);
    Scratch scratch;
    Loss loss;
    step.maker->make(band.rows, std::span(&view, 1), scratch, loss);
    loss.worst = worst;
    writer.put(0, 0, made);
    if (harm) harm(writer);
    const std::vector<std::span<const std::byte>> made_views{made};
    CheckBuffers buffers;
    const BandVerifier verifier(plan);
    EXPECT_EQ(verifier.reach(0, 0), Checked::values);
    verifier.check(band, writer, 0, made_views, loss, scratch, buffers);
  }

  std::string complaint(Fidelity promised, double worst, Dishonest::Lie lie,
                        const std::function<void(MemoryWriter&)>& harm = {}) {
    try {
      check(promised, worst, std::move(lie), harm);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::internal);
      return error.message();
    }
    return "";
  }

  std::vector<float> values_ = std::vector<float>(32);
  Tensor tensor_;
};

TEST_F(VerifyBand, IsContentWithTheSameNumbers) {
  EXPECT_EQ(complaint(Fidelity::values, 0, [](std::span<float>) {}), "");
  EXPECT_EQ(complaint(Fidelity::values, 0, [](std::span<float> v) { v[9] = -0.0F; }), "") << "-0 is 0";
  EXPECT_EQ(complaint(Fidelity::values, 0, [](std::span<float> v) { v[10] = -std::nanf("7"); }), "")
      << "any NaN is NaN";
}

TEST_F(VerifyBand, NamesRowAndBothValuesOfABrokenPromise) {
  const std::string said = complaint(Fidelity::values, 0, [](std::span<float> v) { v[21] = 22.5F; });
  EXPECT_NE(said.find("row 2, column 5"), std::string::npos) << said;
  EXPECT_NE(said.find("22.5"), std::string::npos) << said;
  EXPECT_NE(said.find("is 22;"), std::string::npos) << said;
  EXPECT_NE(complaint(Fidelity::bytes, 1, [](std::span<float> v) { v[0] = 2.0F; }), "")
      << "bytes allow no error at all";
}

TEST_F(VerifyBand, HoldsARoundingToTheErrorItReported) {
  const auto off_by_half = [](std::span<float> v) { v[21] += 0.5F; };
  EXPECT_EQ(complaint(Fidelity::rounded, 0.5, off_by_half), "");
  EXPECT_NE(complaint(Fidelity::rounded, 0.49, off_by_half), "");
  EXPECT_NE(complaint(Fidelity::requantized, 0.49, off_by_half), "");
  const auto no_number = [](std::span<float> v) { v[0] = std::numeric_limits<float>::quiet_NaN(); };
  EXPECT_NE(complaint(Fidelity::rounded, 1e30, no_number), "") << "a NaN is no rounding of a number";
  const auto too_large = [](std::span<float> v) { v[0] = std::numeric_limits<float>::infinity(); };
  EXPECT_NE(complaint(Fidelity::rounded, 1e30, too_large), "");
  EXPECT_EQ(complaint(Fidelity::rounded, std::numeric_limits<double>::infinity(), too_large), "");
}

TEST_F(VerifyBand, SeesAByteThatIsNotWhatWasWritten) {
  for (const std::size_t at : {0U, 63U, 127U}) {
    const auto harm = [at](MemoryWriter& writer) { writer.bytes[at] ^= std::byte{1}; };
    const std::string said = complaint(Fidelity::rounded, 1e30, [](std::span<float>) {}, harm);
    EXPECT_NE(said.find(fmt::format("at byte {}", at)), std::string::npos) << said;
  }
}

}  // namespace
}  // namespace regauge
