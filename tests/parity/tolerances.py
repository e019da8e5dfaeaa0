"""The tolerance of everything in the golden pack, by `file::key`; the first pattern that fits counts.

From the table in the pack's README. Sums and norms have the tolerance of what they are made of.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from tests.parity.comparison import EXACT, FLOAT64, GRADIENT, INPUT, LOSS, NOTE, RAW, UNIT, Rule, within

if TYPE_CHECKING:
    from tests.parity.golden import Pack

RuleOf = Callable[["Pack", str, str], Rule]
SMALLEST_STD = 0.26130258
ONE_LEVEL = 1 / 255 / SMALLEST_STD
"""One of 256 levels in units of the normalised image, in the channel where it is largest."""


def _number_of_elements(pack: "Pack", parameter: str) -> int:
    return max(1, pack.tensors("model/student_init.safetensors")[parameter].numel())


def _sum_over_patches(pack: "Pack", file: str, key: str) -> Rule:
    positions = pack.tensors(file)[key.replace("image_raw_tokens_sum", "run")]
    return within(RAW.absolute * (len(positions) - 1))


def _gradient_norm(pack: "Pack", file: str, key: str) -> Rule:
    *_, parameter, kind = ["", *key.split("/")] if key.endswith(("/sum", "/l2", "/absmax")) else [*key.split("/"), "l2"]
    count = _number_of_elements(pack, parameter)
    if kind == "absmax":
        return GRADIENT
    if kind == "l2":  # of the largest error that the elements may have: norms obey the triangle inequality
        return within(GRADIENT.absolute * count**0.5, GRADIENT.relative)
    gradient = pack.tensors("model/grads.safetensors")[parameter]
    return within(GRADIENT.absolute * count + GRADIENT.relative * gradient.double().abs().sum().item())


def _student_after_step(pack: "Pack", file: str, key: str) -> Rule:
    gradient = pack.tensors("model/grads.safetensors")[key]
    firm = gradient.abs() > 1e-5
    if key == "token_embedding.weight":
        unused = torch.ones(len(gradient), dtype=torch.bool)
        unused[pack.tensors("model/inputs.safetensors")["texts_nB_L"].unique()] = False
        firm |= unused[:, None]
    return within(np.where(firm.numpy(), 2e-6, 1.1e-3))


def _final_sum(pack: "Pack", file: str, key: str) -> Rule:
    _, parameter, _ = key.split("/")
    norm = pack.leaves(file)[key.removesuffix("sum") + "l2"]
    return within(2e-3 * max(norm, 1e-3) * _number_of_elements(pack, parameter) ** 0.5)


def _retrieval_metric(pack: "Pack", file: str, key: str) -> Rule:
    case, _, metric = key.split("/")
    if not pack.json(file)[case]["tied"]:
        return within(1e-5)
    bounds = [pack.json(file)[case]["tie_bounds"][side][metric] for side in ("optimistic", "pessimistic")]
    return Rule(absolute=1e-5, low=min(bounds), high=max(bounds))


def _preprocessed(same_pillow: Rule, other_pillow: Rule) -> RuleOf:
    def rule(pack: "Pack", file: str, key: str) -> Rule:
        import PIL

        return same_pillow if pack.json("transforms/transforms.json")["pillow"] == PIL.__version__ else other_pillow

    return rule


def _sum_over_pixels(pack: "Pack", file: str, key: str) -> Rule:
    sides = [int(side) for side in key.split("/")[3].split(".")[0].split("x")]
    count = 3 * sides[0] * sides[-1]
    return _preprocessed(within(1e-6 * count), within(ONE_LEVEL * count))(pack, file, key)


HALF = 2**-11
"""What half precision rounds off, relative."""
LOGITS = within(2e-5)
PROBABILITY = within(2e-3)
SAME_LABELS = 0.999


def _sum_over_pixels_of_map(pack: "Pack", file: str, key: str) -> Rule:
    logits = pack.tensors(file)[key.replace("whole_logits_sum_per_query", "slide_logits")]
    return within(LOGITS.absolute * logits.shape[-2] * logits.shape[-1])


def _sum_over_labels(pack: "Pack", file: str, key: str) -> Rule:
    """Sums over the pixels that one of the pack's label maps has, at the original size."""
    labels = "segmentation/segmentation.safetensors"
    if key == "pipeline/preprocessed_sum":
        # The reference rounds mean and deviation to three digits of a level, ours are the model's own.
        return within(5e-6 * pack.tensors(labels)["pipeline.preprocessed"].numel())
    about = pack.json(file)
    name = "pipeline." if key.startswith("pipeline/") else about["cases"][int(key.split("/")[1])]["key"]
    pixels = next(value.numel() for stored, value in pack.tensors(labels).items() if stored.startswith(f"pred.{name}"))
    return within(pixels * (1 - SAME_LABELS if key.endswith("class_histogram") else PROBABILITY.absolute))


RULES: list[tuple[str, Rule | RuleOf]] = [
    # model
    ("model/config.json::*", INPUT),
    ("model/fp32_vs_fp64.json::*", NOTE),
    ("model/*inputs.safetensors::*", INPUT),
    ("model/*_init.safetensors::*", INPUT),
    ("model/encode_outputs.safetensors::*_normalized", UNIT),
    ("model/encode_outputs.safetensors::eval_forward.*_features", UNIT),
    ("model/encode_outputs.safetensors::*", RAW),
    ("model/train_forward.safetensors::*_scale", within(3e-6, 1e-6)),
    ("model/train_forward.safetensors::*", UNIT),
    ("model/losses.json::[bn]*", EXACT),
    ("model/losses.json::*", LOSS),
    ("model/grads.safetensors::*", GRADIENT),
    ("model/grads_summary.json::*/shape", EXACT),
    ("model/grads_summary.json::*", _gradient_norm),
    ("model/pos_embed.safetensors::image.*", INPUT),
    ("model/pos_embed.safetensors::image_raw_tokens_sum.*", _sum_over_patches),
    ("model/pos_embed.safetensors::*", RAW),
    ("model/distributed.safetensors::rank[0-9]*", INPUT),
    ("model/distributed.safetensors::*", GRADIENT),
    ("model/distributed.json::world_size", INPUT),
    ("model/distributed.json::ddp_*", NOTE),
    ("model/distributed.json::*/grad_max_residual_after_ratio", NOTE),
    ("model/distributed.json::*grad_l2/*", _gradient_norm),
    ("model/distributed.json::*grad_ratio_to_single_process/*", within(1e-5)),
    ("model/distributed.json::*_loss", LOSS),
    ("model/distributed.json::*/total", LOSS),
    ("model/student_after_step.safetensors::*", _student_after_step),
    ("model/teacher_after_step.safetensors::*", within(6e-7)),
    ("model/optimizer.json::largest_teacher_difference_if_ema_ran_after_the_optimizer", NOTE),
    ("model/optimizer.json::kind", NOTE),
    ("model/optimizer.json::clamp/input", INPUT),
    ("model/optimizer.json::teacher_*/before", INPUT),
    ("model/optimizer.json::clamp/output", within(6e-7)),
    ("model/optimizer.json::teacher_*/after", within(6e-7)),
    ("model/optimizer.json::student_*_after", within(2e-6)),
    ("model/optimizer.json::logged/*loss", LOSS),
    ("model/optimizer.json::logged/*scale", within(6e-7)),
    ("model/optimizer.json::*names", EXACT),
    ("model/optimizer.json::*", FLOAT64),
    ("model/trajectory.json::steps/*loss", within(2e-4)),
    ("model/trajectory.json::steps/*scale", within(1e-5)),
    ("model/trajectory.json::steps/*", FLOAT64),
    ("model/trajectory.json::*_final/*/l2", within(1e-6, 2e-3)),
    ("model/trajectory.json::*_final/*/sum", _final_sum),
    ("model/trajectory.json::*_fp32_vs_fp64*", NOTE),
    ("model/trajectory.json::*", INPUT),
    # checkpoint
    ("checkpoint/ViT-*.json::model", INPUT),
    ("checkpoint/ViT-*.json::*", EXACT),
    ("checkpoint/ema_format_config.json::*", INPUT),
    ("checkpoint/ema_format_outputs.safetensors::image", INPUT),
    ("checkpoint/ema_format_outputs.safetensors::text", INPUT),
    ("checkpoint/ema_format_outputs.safetensors::*", UNIT),
    ("checkpoint/expect.json::*/segmentation_loader_returns", NOTE),
    ("checkpoint/expect.json::*_equals", INPUT),
    ("checkpoint/expect.json::*/model", INPUT),
    ("checkpoint/expect.json::*/key_prefix", INPUT),
    ("checkpoint/expect.json::*", EXACT),
    ("checkpoint/format.json::*/required", EXACT),
    ("checkpoint/format.json::*", NOTE),
    ("checkpoint/*.pt::*", EXACT),
    # schedules
    ("schedules/schedules.json::*/lr", FLOAT64),
    ("schedules/schedules.json::*/value", FLOAT64),
    ("schedules/schedules.json::*", INPUT),
    # text
    ("text/records.json::*", INPUT),
    ("text/samples.json::errors/*", NOTE),
    ("text/samples.json::*/output", EXACT),
    ("text/samples.json::*/outputs/*", EXACT),
    ("text/samples.json::*", INPUT),
    ("text/split_caption.json::*/input", INPUT),
    ("text/split_caption.json::*", EXACT),
    ("text/statistics.json::*/n_candidates", INPUT),
    ("text/statistics.json::*/k", INPUT),
    ("text/statistics.json::*/draws", INPUT),
    ("text/statistics.json::*/seed", INPUT),
    ("text/statistics.json::*", EXACT),
    ("text/tokenizer.json::ftfy", NOTE),
    ("text/tokenizer.json::regex", NOTE),
    ("text/tokenizer.json::*/text", INPUT),
    ("text/tokenizer.json::*", EXACT),
    ("text/tokenizer_ids.safetensors::*", EXACT),
    # retrieval
    ("retrieval/features.safetensors::*.similarity", within(3e-5, 1e-6)),
    ("retrieval/features.safetensors::*", INPUT),
    ("retrieval/metrics.json::*/reference_metrics/*", _retrieval_metric),
    ("retrieval/metrics.json::*/tie_bounds/*", within(1e-5)),
    ("retrieval/metrics.json::paired_get_clip_metrics/metrics/*", within(1e-5)),
    ("retrieval/metrics.json::*/logit_scale", INPUT),
    ("retrieval/metrics.json::*/image_ids_in_loader_order", INPUT),
    ("retrieval/metrics.json::*/caption_image_id", INPUT),
    ("retrieval/metrics.json::*/num_equal_neighbours_in_rows", NOTE),
    ("retrieval/metrics.json::environment/*", NOTE),
    ("retrieval/metrics.json::*", EXACT),
    # classification
    ("classification/classifier.safetensors::image_features", INPUT),
    ("classification/classifier.safetensors::targets", INPUT),
    ("classification/classifier.safetensors::token_ids", EXACT),
    ("classification/classifier.safetensors::classifier", UNIT),
    ("classification/classifier.safetensors::logits", within(5e-4)),
    ("classification/expect.json::min_gap_*", within(1e-3)),
    ("classification/expect.json::top[15]*", EXACT),
    ("classification/expect.json::*", INPUT),
    # segmentation
    ("segmentation/segmentation.safetensors::image.*", INPUT),
    ("segmentation/segmentation.safetensors::query_features", INPUT),
    ("segmentation/segmentation.safetensors::pamr_only.image", INPUT),
    ("segmentation/segmentation.safetensors::pamr_only.mask", INPUT),
    ("segmentation/segmentation.safetensors::pipeline.raw_bgr", INPUT),
    ("segmentation/segmentation.safetensors::pipeline.resized_bgr", EXACT),
    ("segmentation/segmentation.safetensors::pipeline.preprocessed", within(1e-5, HALF)),
    ("segmentation/segmentation.safetensors::window0_tokens.*", RAW),
    ("segmentation/segmentation.safetensors::text_queries.token_ids", EXACT),
    ("segmentation/segmentation.safetensors::text_queries.features", UNIT),
    ("segmentation/segmentation.safetensors::whole_logits_sum_per_query.*", _sum_over_pixels_of_map),
    ("segmentation/segmentation.safetensors::windows.*", LOGITS),
    ("segmentation/segmentation.safetensors::slide_logits.*", LOGITS),
    ("segmentation/segmentation.safetensors::pamr_*", within(5e-5)),
    ("segmentation/segmentation.safetensors::seg_probs.*", PROBABILITY),
    ("segmentation/segmentation.safetensors::pred.*", Rule(exact=True, share=SAME_LABELS)),
    ("segmentation/segmentation.json::window_order/*", EXACT),
    ("segmentation/segmentation.json::pipeline/resize_scale", INPUT),
    ("segmentation/segmentation.json::pipeline/raw_shape", INPUT),
    ("segmentation/segmentation.json::pipeline/resized_shape", EXACT),
    ("segmentation/segmentation.json::pipeline/preprocessed_sum", _sum_over_labels),
    ("segmentation/segmentation.json::pipeline/resize_shapes/*/out", EXACT),
    ("segmentation/segmentation.json::pipeline/resize_shapes/*", INPUT),
    ("segmentation/segmentation.json::*/prob_sum_per_class", _sum_over_labels),
    ("segmentation/segmentation.json::cases/*/class_histogram", _sum_over_labels),
    ("segmentation/segmentation.json::cases/*/pixels_*", NOTE),
    ("segmentation/segmentation.json::*", INPUT),
    ("segmentation/iou.safetensors::*", INPUT),
    # transforms
    ("transforms/transforms.safetensors::*png_bytes", INPUT),
    ("transforms/transforms.safetensors::*uint8_hwc", _preprocessed(EXACT, within(1.0))),
    ("transforms/transforms.safetensors::*", _preprocessed(within(1e-6), within(ONE_LEVEL))),
    ("transforms/transforms.json::pillow", NOTE),
    ("transforms/transforms.json::torchvision", NOTE),
    ("transforms/transforms.json::resized_wh/*/output_wh", EXACT),
    ("transforms/transforms.json::resized_wh/*", INPUT),
    ("transforms/transforms.json::mean", FLOAT64),
    ("transforms/transforms.json::std", FLOAT64),
    ("transforms/transforms.json::*/sha256_uint8_hwc", _preprocessed(EXACT, NOTE)),
    ("transforms/transforms.json::*sum", _sum_over_pixels),
    ("transforms/transforms.json::*/channel_*", _preprocessed(within(1e-6), within(ONE_LEVEL))),
    ("transforms/transforms.json::*", EXACT),
]
