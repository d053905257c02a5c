// What inspect says of a Qwen3.5-27B in the storages that people publish. Expected counts and bytes are the arithmetic of the
// shapes in Qwen/Qwen3.5-27B's index (851 text, 333 vision and 15 MTP tensors; metadata.total_size 55,562,872,800) and of the
// storage rules of GPTQModel and mlx-lm; the files are headers over holes.
#include <gtest/gtest.h>

#include "formats/format.h"
#include "inspect/report.h"
#include "tests/support/golden.h"
#include "tests/support/model_shapes.h"

namespace regauge::inspect {
namespace {

using testing::make_qwen35_27b;
using testing::ModelShapes;
using testing::ShapesRecipe;
using Storage = ShapesRecipe::Storage;

/// A sparse directory of the recipe, opened and examined.
struct Examined {
  explicit Examined(const ShapesRecipe& recipe) : shapes(make_qwen35_27b(recipe)) {
    testing::write_sparse_checkpoint(folder.path(), shapes, 11);
    checkpoint = open_checkpoint(folder.path());
    report = examine(checkpoint);
  }

  Tally of(Component component) const {
    Tally tally;
    for (const TableRow& row : report.summary.table) {
      if (row.component == component) tally.add(row.tally);
    }
    return tally;
  }

  bool has(std::string_view code) const {
    return std::ranges::find(report.findings, code, &Finding::code) != report.findings.end();
  }

  testing::ScratchDir folder;
  ModelShapes shapes;
  Checkpoint checkpoint;
  Report report;
};

double rounded(std::optional<double> bits) { return std::round(bits.value_or(0) * 1000) / 1000; }

TEST(RealShapes, TheOfficialModelCountsAsPublished) {
  const Examined model({.storage = Storage::bf16});
  const Summary& summary = model.report.summary;
  EXPECT_EQ(summary.format, "safetensors");
  ASSERT_TRUE(summary.architecture.has_value());
  EXPECT_EQ(summary.architecture->label, "Qwen3.5 27B");
  EXPECT_EQ(summary.text.tensors, 851U);
  EXPECT_EQ(summary.vision.tensors, 333U);
  EXPECT_EQ(summary.mtp.tensors, 15U);
  EXPECT_EQ(summary.text.parameters, 26'895'998'464U);
  EXPECT_EQ(summary.vision.parameters, 460'730'096U);
  EXPECT_EQ(summary.mtp.parameters, 424'699'392U);
  EXPECT_EQ(summary.everything.parameters, 27'781'427'952U);
  EXPECT_EQ(summary.text.bytes, 53'792'013'824U);
  EXPECT_EQ(summary.vision.bytes, 921'460'192U);
  EXPECT_EQ(summary.mtp.bytes, 849'398'784U);
  EXPECT_EQ(summary.array_bytes, 55'562'872'800U);
  EXPECT_EQ(summary.quantized.tensors, 0U);
  EXPECT_TRUE(model.report.completeness->missing.empty());
  EXPECT_TRUE(model.report.completeness->unknown.empty());
  EXPECT_TRUE(model.has("f32-pair-kept"));
  EXPECT_FALSE(model.has("mtp-announced-absent"));
}

TEST(RealShapes, TheOfficialModelAddsUpByComponent) {
  const Examined model({.storage = Storage::bf16});
  EXPECT_EQ(model.of(Component::embedding), (Tally{1, 1'271'398'400, 2'542'796'800}));
  EXPECT_EQ(model.of(Component::head), (Tally{1, 1'271'398'400, 2'542'796'800}));
  EXPECT_EQ(model.of(Component::mlp), (Tally{192, 17'112'760'320, 34'225'520'640}));
  // The tables of the model count the norms inside of a mixer with the mixer (432 and 96 tensors); ours are all in one row.
  const Tally mixers{432, 5'562'051'072, 11'124'119'040};
  const Tally gated_norms{48, 48 * 128, 48 * 128 * 4};
  const Tally attention{96, 1'677'729'792, 3'355'459'584};
  const Tally head_norms{32, 32 * 256, 32 * 256 * 2};
  const Tally layer_norms{129, 660'480, 1'320'960};
  Tally deltanet = model.of(Component::deltanet);
  deltanet.add(gated_norms);
  EXPECT_EQ(deltanet, mixers);
  Tally full = model.of(Component::attention);
  full.add(head_norms);
  EXPECT_EQ(full, attention);
  Tally norms = layer_norms;
  norms.add(gated_norms);
  norms.add(head_norms);
  EXPECT_EQ(model.of(Component::norm), norms);
}

/// 8-bit embedding, head, attention and out_proj, 6-bit DeltaNet inputs, 5-bit MLP.
ShapesRecipe mlx_8865(int group) {
  return {.storage = Storage::mlx,
          .vision = false,
          .mtp = false,
          .group = group,
          .attention = 8,
          .deltanet_in = 6,
          .deltanet_out = 8,
          .mlp = 5,
          .embedding = 8};
}

TEST(RealShapes, AnMlxMixOf8865TakesSixAndAQuarterBits) {
  const Examined model(mlx_8865(64));
  const Summary& summary = model.report.summary;
  EXPECT_EQ(summary.format, "mlx");
  EXPECT_EQ(summary.everything.parameters, 26'895'998'464U);
  EXPECT_EQ(summary.array_bytes, 21'149'679'104U);
  EXPECT_EQ(rounded(summary.everything.bits()), 6.291);
  EXPECT_EQ(summary.quantized.tensors, 498U);
  EXPECT_TRUE(model.has("mtp-announced-absent"));
  EXPECT_TRUE(model.has("vision-absent"));
  EXPECT_TRUE(model.has("mlx-norms-shifted"));
  EXPECT_TRUE(model.report.completeness->missing.empty());
}

TEST(RealShapes, TheGroupSizeMovesTheMlxMixByHalfABit) {
  EXPECT_EQ(make_qwen35_27b(mlx_8865(32)).bytes(), 22'830'513'664U);
  const Examined coarse(mlx_8865(128));
  EXPECT_EQ(coarse.report.summary.array_bytes, 20'309'261'824U);
  EXPECT_EQ(rounded(coarse.report.summary.everything.bits()), 6.041);
}

/// INT8 attention, INT4 elsewhere, group 128, act-order, rank-64 factors on all 400 modules.
ShapesRecipe gptq_mixed() { return {.storage = Storage::gptq, .group = 128, .attention = 8, .eora_rank = 64}; }

TEST(RealShapes, AMixedGptqWithFactorsCountsThemApart) {
  const Examined model(gptq_mixed());
  const Summary& summary = model.report.summary;
  EXPECT_EQ(summary.format, "gptq");
  EXPECT_EQ(summary.everything.parameters, 27'781'427'952U);
  EXPECT_EQ(summary.array_bytes, 21'274'896'352U);
  EXPECT_EQ(summary.quantized.tensors, 400U);
  EXPECT_EQ(summary.quantized.parameters, 24'326'963'200U);
  EXPECT_EQ(summary.factors.tensors, 400U);
  EXPECT_EQ(summary.factors.bytes, 870'318'080U);
  EXPECT_TRUE(model.has("eora-found"));
  EXPECT_TRUE(model.report.completeness->missing.empty());
  EXPECT_TRUE(model.report.completeness->unknown.empty());
}

TEST(RealShapes, WhatAMixedGptqLeavesOutMakesItSmaller) {
  const auto bytes = [](const auto& change) {
    ShapesRecipe recipe = gptq_mixed();
    change(recipe);
    const Examined model(recipe);
    return model.report.summary.array_bytes;
  };
  EXPECT_EQ(bytes([](ShapesRecipe& r) { r.mtp = false; }), 20'425'497'568U);
  EXPECT_EQ(bytes([](ShapesRecipe& r) {
              r.mtp = false;
              r.eora_rank = 0;
            }),
            19'555'179'488U);
  EXPECT_EQ(bytes([](ShapesRecipe& r) {
              r.mtp = r.vision = false;
              r.eora_rank = 0;
            }),
            18'633'719'296U);
  EXPECT_EQ(bytes([](ShapesRecipe& r) {
              r.mtp = r.vision = false;
              r.eora_rank = 0;
              r.attention = 4;
            }),
            17'788'304'896U);
}

TEST(RealShapes, AUniformGptqOfGroup64TakesBits) {
  const Examined model({.storage = Storage::gptq, .mtp = false, .group = 64});
  const Summary& summary = model.report.summary;
  EXPECT_EQ(summary.array_bytes, 19'184'901'088U);
  EXPECT_EQ(rounded(summary.quantized.bits()), 4.316);
  EXPECT_NEAR(*summary.everything.bits(), 5.61, 0.005);
  EXPECT_EQ(summary.everything.parameters, 27'356'728'560U);
  EXPECT_TRUE(model.has("mtp-announced-absent"));
  EXPECT_EQ(model.report.marlin.modules, 400U);
  EXPECT_EQ(model.report.marlin.strict, 400U);
  EXPECT_TRUE(model.report.marlin.compatible());
}

TEST(RealShapes, AMissingAMisnamedAndAMisshapenTensorAreTold) {
  ModelShapes shapes = make_qwen35_27b({.storage = Storage::bf16});
  const auto find = [&](std::string_view name) {
    return std::ranges::find(shapes.arrays, name, &testing::ShapedArray::name);
  };
  find("model.language_model.layers.3.self_attn.q_proj.weight")->shape = {24 * 256, 5120};  // without the gate
  find("model.language_model.layers.7.mlp.up_proj.weight")->name = "model.language_model.layers.7.mlp.upp_proj.weight";
  shapes.arrays.erase(find("model.language_model.layers.9.mlp.down_proj.weight"));
  const testing::ScratchDir folder;
  testing::write_sparse_checkpoint(folder.path(), shapes, 3);
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  const Report report = examine(checkpoint);
  ASSERT_TRUE(report.completeness.has_value());
  const Completeness& found = *report.completeness;
  ASSERT_EQ(found.missing.size(), 2U);
  EXPECT_EQ(report.architecture->canonical_name(found.missing[0].slot),
            "model.language_model.layers.7.mlp.up_proj.weight");
  EXPECT_EQ(report.architecture->canonical_name(found.missing[1].slot),
            "model.language_model.layers.9.mlp.down_proj.weight");
  ASSERT_EQ(found.unknown.size(), 1U);
  EXPECT_EQ(checkpoint.tensors[found.unknown[0]].name, "model.language_model.layers.7.mlp.upp_proj.weight");
  ASSERT_EQ(found.wrong_shapes.size(), 1U);
  EXPECT_EQ(found.wrong_shapes[0].expected, (Shape{2 * 24 * 256, 5120}));
}

}  // namespace
}  // namespace regauge::inspect
