"""Names of settings and flags in other programs, and what they are called here."""

import difflib
from collections.abc import Collection, Iterable

_KEYS = {
    "training.batch": "batch_size bs train_batch_size mini_batch minibatch minibatch_size samples_per_step",
    "training.learning_rate": "lr learning_rate learningrate base_lr init_lr initial_lr step_size alpha",
    "training.steps": "num_steps n_steps max_steps total_steps train_steps training_steps num_train_steps iterations "
    "num_iterations iters max_iters niter updates",
    "training.warmup": "warmup_steps lr_warmup num_warmup_steps lr_warmup_steps warmup_images",
    "training.weight_decay": "wd l2 decay adam_weight_decay",
    "training.clip": "grad_clip gradient_clip gradient_clipping clip_grad clip_norm max_norm max_grad_norm",
    "training.held_out": "val_split validation_split validation val_fraction valid_fraction test_split test_size "
    "val_size holdout hold_out",
    "training.augment": "augmentation augmentations augment_prob aug flip hflip random_flip horizontal_flip",
    "training.seed": "seed random_seed random_state manual_seed",
    "data.size": "image_size img_size imgsize resolution res resize input_size crop crop_size height width_height",
    "data.limit": "num_samples n_samples max_samples max_images num_images subset train_size",
    "data.labels": "label_key class_labels y",
    "data.key": "array npz_key image_key data_key",
    "data.layout": "data_format data_type modality",
    "data.channels": "channels_last channels_first channel_axis channel_order",
    "data.convert": "color_mode colour_mode mode color colour grayscale greyscale to_rgb rgb",
    "data.levels": "num_levels bins num_bins quantization",
    "network.width": "channels base_channels model_channels num_channels hidden hidden_size hidden_dim hidden_channels "
    "dim nf ngf units features",
    "network.depth": "layers num_layers n_layers hidden_layers",
    "network.blocks": "num_res_blocks n_res_blocks res_blocks layers_per_block blocks_per_level",
    "network.multipliers": "channel_mult ch_mult dim_mults channel_multipliers block_out_channels",
    "network.attention": "attention_resolutions attn_resolutions attn use_attention",
    "network.heads": "num_heads n_heads attention_heads attention_head_dim",
    "network.dropout": "drop_rate dropout_rate p_dropout",
    "network.kind": "model architecture arch backbone net model_type",
    "process.schedule": "noise_schedule beta_schedule betas",
    "process.schedule.steps": "timesteps num_timesteps n_timesteps num_train_timesteps diffusion_steps "
    "num_diffusion_steps noise_steps t",
    "process.schedule.first": "beta_start",
    "process.schedule.last": "beta_end",
    "target": "prediction_type parameterization parametrization pred_type predict prediction model_mean_type",
    "objective.weight": "loss_weight loss_weighting weighting snr_gamma min_snr_gamma",
    "objective.kind": "loss loss_type criterion",
    "objective.pairing": "ot optimal_transport coupling minibatch_ot",
    "sampling.steps": "sample_steps sampling_steps num_inference_steps inference_steps num_sampling_steps nfe "
    "ddim_steps",
    "sampling.sampler": "sampler sampling_method sampler_name solver scheduler",
    "conditioning.kind": "class_cond class_conditional conditional num_classes",
}
_FLAGS = {
    "--out": "out out_dir output output_dir output_file save_dir save_path log_dir logdir run_dir results_dir",
    "--device": "device gpu gpus cuda accelerator devices",
    "--precision": "precision mixed_precision amp fp16 bf16 half dtype use_fp16 fp32",
    "--checkpoint-every": "checkpoint_every save_every save_interval checkpoint_interval save_steps",
    "--keep-last": "keep_last max_checkpoints save_total_limit save_top_k",
    "--resume": "resume checkpoint resume_from resume_checkpoint resume_from_checkpoint ckpt ckpt_path",
    "--budget": "budget time max_time time_limit duration hours minutes",
    "--threads": "threads num_threads n_threads cpu_threads num_workers workers n_jobs jobs",
    "--recipe": "recipe preset config config_file",
    "--recipes": "recipes presets configs",
    "--micro-batch": "micro_batch accumulate grad_accum gradient_accumulation_steps accumulate_grad_batches",
    "--gradient-checkpointing": "gradient_checkpointing grad_checkpointing checkpointing remat use_checkpoint",
    "--count": "count n num num_samples n_samples samples num_images n_images number amount size",
    "--samples": "num_samples n_samples count n",
    "--batch": "batch_size bs batchsize mini_batch sample_batch_size",
    "--seed": "random_seed random_state manual_seed",
    "--steps": "num_steps n_steps max_steps total_steps train_steps iterations num_iterations iters "
    "num_inference_steps inference_steps sampling_steps num_sampling_steps sample_steps timesteps nfe evaluations",
    "--nfe": "steps num_steps evaluations num_inference_steps inference_steps budgets",
    "--iterations": "iters num_iterations max_iterations max_iters epochs",
    "--sampler": "scheduler solver sampling_method sampler_name method",
    "--methods": "samplers schedulers solvers methods",
    "--evaluations": "nfe num_evaluations",
    "--per-sample": "per_sample csv",
    "--tolerance": "tol rtol atol",
}
_OTHERWISE = {
    "epochs epoch num_epochs n_epochs max_epochs num_train_epochs": "training is counted in steps: give --steps N, "
    "or a time with --budget",
    "data_dir data_path dataset dataset_path train_dir path root input input_dir data": "the data is the first "
    "argument, SOURCE",
    "ema ema_decay ema_rate use_ema ema_half_life": "averages over all horizons are kept, and the best is chosen",
}
SYNONYMS = {word: key for key, words in _KEYS.items() for word in words.split()}
FLAGS = {flag: words.split() for flag, words in _FLAGS.items()}
ADVICE = {word: text for words, text in _OTHERWISE.items() for word in words.split()}
_OF_TRAINING = "out device precision checkpoint-every keep-last resume budget threads recipe micro-batch"
_TRAIN = {word: f"--{name}" for name in _OF_TRAINING.split() for word in FLAGS[f"--{name}"]}
"""Words for what is a flag of ``sfumato train``, and no setting of a recipe."""


def meant(key: str, known: Iterable[str]) -> str:
    """`; did you mean X?` or other advice for a name from another program.

    Empty for other names, and for what a recipe with the ``known`` keys does not have.
    """
    word = _word(key.rpartition(".")[2])
    if SYNONYMS.get(word) in set(known):
        return f"; did you mean {SYNONYMS[word]}?"
    if word in _TRAIN:
        return f"; it is no setting but a flag of 'sfumato train': {_TRAIN[word]}"
    return f"; {ADVICE[word]}" if word in ADVICE else ""


def flag_meant(typed: str, flags: Collection[str], settings: str | None = None) -> str:
    """Advice for an unknown flag of a verb that has ``flags``; empty where there is none.

    Arguments:
        typed: the flag as it was typed, perhaps with =VALUE.
        flags: the flags of the verb.
        settings: what the keys that the verb takes as key=value begin with; None if it takes none.
    """
    name, equals, value = typed.partition("=")
    word, value = _word(name), value if equals else "VALUE"
    if settings is not None and "." in name and name.lstrip("-").startswith(settings):
        return f"settings have no dashes: give {name.lstrip('-')}={value}"
    known = [flag for flag, words in FLAGS.items() if word in words and flag in flags]
    if known:
        return f"did you mean {known[0]}?"
    if settings is not None and word in SYNONYMS and SYNONYMS[word].startswith(settings):
        return f"settings have no dashes: give {SYNONYMS[word]}={value}"
    if settings == "" and word in ADVICE:
        return ADVICE[word]
    close = difflib.get_close_matches(name, [flag for flag in flags if flag.startswith("--")], 1, cutoff=0.8)
    return f"did you mean {close[0]}?" if close else ""


def _word(typed: str) -> str:
    return typed.lstrip("-").replace("-", "_").lower()
