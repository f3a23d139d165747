"""What the pages say, in English and Japanese: one dictionary per language, with the same keys."""

from __future__ import annotations

import re
from dataclasses import dataclass

ENGLISH = {
    # counts: singular | plural
    "epoch": "{n} epoch|{n} epochs",
    "update": "{n} update|{n} updates",
    "row": "{n} row|{n} rows",
    "particle": "{n} particle|{n} particles",
    "validation_count": "{n} validation|{n} validations",
    "second": "{n} s|{n} s",
    "minute": "{n} min|{n} min",
    "hour": "{n} h|{n} h",
    # the page
    "title": "{model} on {data}",
    "report_of": "Report of a run",
    "language": "Language",
    "contents": "On this page",
    "verdict": "Verdict",
    "findings": "What training noticed",
    "losses": "Losses",
    "frames": "Samples over training",
    "dreams_frames": "Dreams over training",
    "reconstructions": "Reconstructions",
    "columns": "Columns",
    "latent": "Latent space",
    "nearest": "Nearest training data",
    "neighbors": "Samples beside their nearest training rows",
    "neighbors_images": "Samples beside their nearest training images",
    "figures": "Figures",
    "origin": "How it was made",
    "missing": "Not here: {why}",
    "made_with": "Written by ancestral {version}. This page is one file and asks nothing of any network.",
    # models and splits
    "model_vae": "variational autoencoder",
    "model_gan": "generative adversarial network",
    "model_sbn": "sigmoid belief net",
    "model_helmholtz": "Helmholtz machine",
    "model_hierarchical-vae": "hierarchical variational autoencoder",
    "model_ladder-vae": "ladder variational autoencoder",
    "model_categorical-vae": "variational autoencoder with discrete latent variables",
    "model_m2": "semi-supervised variational autoencoder",
    "model_bayes-classifier": "class-conditional generative model",
    "model_classifier": "classifier",
    "model_own": "model of your own",
    "split_test": "test",
    "split_validation": "validation",
    "split_train": "training",
    # the verdict
    "level_good": "Can be used",
    "level_care": "Use with care",
    "level_bad": "Not to be used",
    "trained_on": "A {model} was trained on {data}, {rows} of shape {shape}{likelihood}.",
    "with_likelihood": ", with the {likelihood} likelihood and {latent} latent dimensions",
    "ended_all": "All of the planned {epochs} were made: {updates} in {time}.",
    "ended_early": "It stopped early, after {epochs} ({updates}, {time}): {validations} in a row brought no "
    "improvement.",
    "ended_other": "It ended after {epochs} ({updates}, {time}): {finished}.",
    "ended_not": "It is not finished: {epochs} of {planned} are made, {updates} in {time}.",
    "ended_no_start": "It has not come to its first checkpoint.",
    "best_validation": "The best validation loss is {value} nats, at epoch {epoch}.",
    "validation_rising": "After that validation rose, to {value} nats, while training went on: the last weights are "
    "overfitted, the best ones are not.",
    "validation_falling": "It was still falling at the end, so longer training would help.",
    "validation_falling_still": "It was still falling at the end.",
    "validation_flat": "At the end it no longer changed by more than it wavers.",
    "validation_short": "There are too few validations to say where it was going.",
    "no_validation": "No rows were held out for validation, so nothing tells whether it overfits or when to stop.",
    "game": "A game has no validation loss: neither player's loss says how good the samples are.",
    "discriminator": "Over the last tenth of training the discriminator was right about {data} of the data and "
    "{samples} of the samples.",
    "bound": "On {rows} of the {split} data {quantity} is at least {value} ± {error} nats ({particles}).",
    "data_note": "Of the data: {note}.",
    "uniform": "A uniform guess over the {levels} levels of each value would give {value} nats.",
    "memorized": "Half of {held} of the {split} data, with a log p(x) of {held_median} nats or less, are less likely "
    "under it than 95 % of {train} of the training data, whose median is {train_median} nats.",
    "near": "Its samples lie far nearer to the training data than new data do.",
    "alike": "Its samples are much more alike than data are: two of them are {samples} apart, two rows of the data "
    "{data} (medians).",
    "far": "Its samples lie far off the data: {samples} from the nearest training row, where new data lie {held} from "
    "it (medians).",
    "active_units": "{active} of {units} units of {name} are active.",
    "finding_past": "What looked wrong on the way no longer holds; see below.",
    "finding_one": "Training noticed something that looked wrong; see below.",
    "finding_many": "Training noticed {n} things that looked wrong; see below.",
    "trust_no_weights": "There are no trained weights, so there is nothing to trust yet.",
    "trust_unfinished": "What is shown is of an unfinished run and will change.",
    "trust_collapsed": "No latent unit carries anything about the data: the posterior has collapsed, and the model "
    "ignores its latent variables. Don't use its latent space.",
    "trust_uniform": "On new data its bound is below that of a uniform guess: don't use it.",
    "trust_memorized": "It has learned the training data by heart, and says little of new data. Train it on more data, "
    "for fewer epochs, or with a smaller network.",
    "trust_near": "It may be repeating the training data. Look at its samples beside their nearest training rows.",
    "trust_alike": "Its samples have little of the variety of the data: the mode has collapsed. Don't use them.",
    "trust_far": "Its samples are unlike the data, so don't use them as if they were data.",
    "trust_findings": "Settle what training noticed before you rely on this model.",
    "trust_falling": "It can be used, but it has not reached what these settings allow.",
    "trust_short": "The figures below hold for it as it is; its training is too short to say what more would bring.",
    "trust_unvalidated": "Trust the figures on held-out data below, if there are any, and not the training loss.",
    "trust_game": "Judge it by its samples and by their nearest training rows: no figure here vouches for it.",
    "trust_rising": "The commands take the best weights, from before validation rose: those can be trusted as far as "
    "the figures below go.",
    "trust_good": "Nothing looked wrong: it can be trusted as far as the figures below go, each with its error and "
    "its kind.",
    "next": "Next",
    # what training noticed, by check
    "in_english": "{words}",
    "finding_withdrawn": "Training withdrew this at epoch {epoch}: it no longer holds.",
    "check_idle_limit": "A limit without effect",
    "check_idle_batch_size": "A batch larger than the data",
    "check_cold_average": "The average of the weights stays cold",
    "check_constant_data": "Constant data",
    "check_leaked_rows": "Test rows among the training rows",
    "check_frozen_loss": "Frozen loss",
    "check_frozen_weights": "Frozen weights",
    "check_loss_spike": "Jump of the loss",
    "check_loss_above_start": "Loss above its start",
    "check_validation_not_finite": "Validation loss not finite",
    "check_overfitting": "Overfitting",
    "check_discriminator_wins": "The discriminator wins",
    "check_posterior_collapse": "Posterior collapse",
    "check_mode_collapse": "Mode collapse",
    "check_not_finite": "Not finite",
    # losses
    "no_rows": "metrics.jsonl holds no line yet.",
    "chart_share": "How often the discriminator is right",
    "chart_particles": "Effective sample size, particles",
    "chart_weight": "Weight of the divergence",
    "chart_of": "{name}, nats per datapoint",
    "axis_epochs": "epochs",
    "mark_best": "best validation, {value}",
    "mark_best_bare": "best validation",
    "mark_stop": "stopped early",
    "log_axis": "logarithmic epochs",
    "whole_range": "every value",
    "chart_help": "Click a name to hide or show it. With the pointer, or the arrow keys when the chart has the focus, "
    "the values are read off. The first rows may lie above the chart; “every value” shows them.",
    "chart_label": "Chart: {title}. Arrow keys read off the values.",
    # frames
    "no_frames_table": "the data are no images, so no pictures were made during training.",
    "see_columns": "See the columns below.",
    "no_frames": "the folder samples/ holds no pictures.",
    "frames_help": "Move through training with the slider or the arrow keys. Percentages are of the planned training.",
    "frame_slider": "How far training was",
    "frame": "{percent} %",
    "frame_epoch": "{percent} %, epoch {epoch}",
    "samples_at": "Samples at {percent} % of training",
    "dreams_help": "What the machine dreams, drawn from p from the top layer down.",
    "dreams_taught": "Of such fantasies q learns in the sleep phase.",
    "dreams_at": "Dreams at {percent} % of training",
    "dreams": "Dreams",
    "reconstructions_at": "Validation images and their reconstructions, in pairs, at {percent} % of training",
    "samples": "Samples",
    "pairs": "Images, each with its reconstruction at its right",
    # reconstructions
    "no_weights": "the run has no checkpoint yet, so there is no model to ask.",
    "no_encoder": "this model has no encoder, so it reconstructs nothing.",
    "no_held_out": "no rows were held out.",
    "no_density": "this model gives no density p(x | z).",
    "reconstructions_help": "Of {rows} of the {split} data, ranked by E[log p(x | z)] in nats, the mean over "
    "{particles} from q(z | x). Left the original, right the mean of p(x | z) at {where} of q(z | x).",
    "at_the_mean": "the mean",
    "at_a_draw": "a draw",
    "best": "Best",
    "median": "Median",
    "worst": "Worst",
    "original_and_reconstruction": "Original and reconstruction, row {row}: {value} nats",
    "nats": "{value} nats",
    # columns
    "prediction_help": "The model is given {given} and has not seen {observed}: this is a prediction of it.",
    "columns_help": "Of {rows} of the {split} data, in their own units. The error is the root mean square of original "
    "minus reconstruction; beside it, as a part of the column's standard deviation: 1 is no better than always saying "
    "the mean.",
    "columns_help_samples": "Of {rows} of the {split} data, in their own units, beside as many samples of the model.",
    "columns_drawn": "It is of a draw of q(z | x), whose mean is not known in closed form.",
    "columns_more": "The first {shown} of {all} columns.",
    "column": "column",
    "data_mean": "data: mean ± s.d.",
    "sample_mean": "samples: mean ± s.d.",
    "error": "reconstruction error",
    "error_share": "of the s.d.",
    # latent space
    "latent_game": "this model has no posterior of latent variables: nothing maps data to latent values.",
    "latent_no_means": "the posterior means of this model are not known in closed form.",
    "latent_of_p": "{drawn} are drawn from p itself, given {given} alone: what is called posterior here has not seen "
    "{observed}, which the model predicts.",
    "map_title": "Map of {name}",
    "map_direct": "Posterior means of {rows} of the {split} data, the two dimensions of {name} as they are.",
    "map_components": "Posterior means of {rows} of the {split} data: the first two principal components of the "
    "{units} dimensions of {name}, which hold {share} of their variance.",
    "map_averaged": "Each is averaged over {draws} draws{before}.",
    "map_before": " of the variables that q draws before {name}",
    "map_own": "",
    "map_one": "{name} has one dimension; a map needs two.",
    "map_still": "the posterior means are the same for every row, so there is nothing to map.",
    "map_colored": "Colored by label.",
    "map_many_classes": "There are {classes} classes, too many to tell apart by color.",
    "map_no_labels": "The data have no labels, so all points have one color.",
    "map_help": "Point at a row, or use the arrow keys when the map has the focus, to see it.",
    "map_label": "Map of the posterior means of {name}. Arrow keys go from row to row.",
    "class": "label {label}",
    "without_class": "no label",
    "point": "row {row}",
    "point_class": "row {row}, label {label}",
    "component": "component {n}",
    "unit_axis": "{name}, unit {n}",
    "kl_title": "KL divergence of each unit of {name}, nats",
    "kl_help": "E[log q(z | x) - log p(z)], sorted. Filled bars are active units, whose posterior mean has a variance "
    "over the data above {threshold}: {active} of {units}.",
    "information": "{name}: {value} nats{error}, {kind} ({estimator}).",
    "information_help": "Mutual information says how much the draws of q tell of the data: it is what the divergence "
    "from the prior has besides that of the aggregate posterior, KL(q(z) || p(z)). A lower bound near the most that "
    "its mixture allows only says that there is more.",
    "kl_none": "the divergence of a unit is not known in closed form here.",
    "kl_more": "The {shown} largest of {units}.",
    "kl_unit": "unit {unit}: KL {kl} nats, variance of its mean {activity}, {state}",
    "active": "active",
    "inactive": "inactive",
    "unit": "unit",
    "activity": "variance of the mean",
    "state": "state",
    "as_table": "The same as a table",
    "manifold": "The manifold",
    "manifold_help": "The mean of p(x | z) over a grid of z, at equal steps of the prior's probability.",
    "layers": "What each layer decides",
    "layers_one": "there is one layer of latent variables.",
    "layers_help": "Each row has one draw of {above}, which stays, and each column a new one of {below}. Shown is the "
    "mean of p(x | z); where that is not known, a draw of x.",
    "manifold_only_two": "a map of what is decoded needs exactly two latent dimensions, and nothing besides that is "
    "drawn, such as a label.",
    "manifold_prior": "the grid follows a standard normal prior, and this model's prior is another.",
    "manifold_table": "the data are no images.",
    # neighbors
    "neighbors_help": "Left the model's sample, right the training row at the least Euclidean distance, which is "
    "written under it.",
    "neighbors_part": "The model is given {given}: only {observed}, which it draws, is compared.",
    "neighbors_mean": "Samples are shown as the mean of p(x | z).",
    "neighbors_distance": "The median distance to the nearest training row is {samples} for {draws} draws{means}, and "
    "{held} for {rows} of the {split} data.",
    "neighbors_means": ", {means} for as many means of p(x | z)",
    "neighbors_far_from_proof": "A copy that is noisy or altered can lie as far off as new data: distances alone "
    "clear no model.",
    "neighbors_density": "The median log p(x) is {train_median} nats for {train} of the training data and "
    "{held_median} for {held} of the {split} data (lower bounds, {particles}).",
    "neighbors_variety": "Two draws are {samples} apart, two rows of the {split} data {data} (medians).",
    "neighbors_table": "The samples are no pictures, so only distances are given, in the units that the model sees.",
    "sample_and_nearest": "Sample and its nearest training image, at distance {distance}",
    # figures
    "no_figures": "this model has no density, so there is no bound to evaluate.",
    "figures_stored": "From evaluation.json, {weights} weights.",
    "figures_not_compared": "Whether these figures are of the weights that the run has now can't be checked.",
    "figures_quick": "A quick evaluation made for this page: {rows}, {particles}, {weights} weights, {seconds} s.",
    "figures_stale": "evaluation.json is not of the weights that the run has now, so it was left aside.",
    "ladder": "The ladder of likelihoods",
    "ladder_help": "From the lowest up, in nats, on one scale. A band is the Monte Carlo error, where it is known: how "
    "far another seed may lie off, as a standard error.",
    "ladder_rows": "The standard error over the rows, up to {error} nats, is no part of the bands: all of these are of "
    "the same rows.",
    "figures_full": "For all rows and more particles:",
    "quantity": "quantity",
    "value": "value",
    "standard_error": "± standard error",
    "kind": "kind",
    "estimator": "estimator",
    "data_digest": "data, digest",
    "seed": "seed",
    "published": "published",
    "published_at": "{value} nats, a {kind}, {estimator}{units} ({source})",
    "published_units": ", {units} active units",
    "difference": "What differs: ",
    "differ_passes": "published after {passes} passes in batches of {batch}, this run made {own} in batches of "
    "{own_batch}",
    "differ_optimizer": "published with {published}, here {own}",
    "differ_schedule": "published with {published}, here {own}",
    "differ_train": "published with {rows} training images, here {own}",
    "differ_particles": "published with {particles} particles per image, here {own}",
    "differ_rows": "published on {rows} test images, here on {own}",
    "differ_draws": "test images binarized by other draws",
    "kind_exact": "exact",
    "kind_lower bound": "lower bound",
    "kind_upper bound": "upper bound",
    "kind_estimate": "estimate",
    "kind_part of a bound": "part of a bound",
    # origin
    "command": "The exact command",
    "no_command": "environment.json names no command.",
    "command_other": "It was started from a program of your own:",
    "settings": "Settings",
    "setting": "setting",
    "environment": "Versions and data",
    "card": "Model card",
    "no_card": "there is no MODEL_CARD.md; it is written when training ends.",
    "parameters": "parameters",
    "platform": "platform",
    "git": "git commit",
    "rows_digest": "{split} rows, SHA-256",
    # comparison
    "comparison": "Runs side by side",
    "comparison_of": "Comparison of {n} runs",
    "runs": "Runs",
    "run": "run",
    "what": "model and data",
    "ended": "how it ended",
    "best_at": "best validation loss, nats",
    "at_epoch": "{value} at epoch {epoch}",
    "weights": "weights",
    "settings_differ": "Settings that differ",
    "settings_same": "All settings are the same.",
    "one_group": "These figures are of the same rows, likelihood and particles, so they stand in one table.",
    "many_groups": "These runs are in {n} tables, because what is in different tables can't be compared:",
    "differs": "{what}: {values}",
    "key_quantity": "what is measured",
    "key_data": "data and their preparation",
    "key_digest": "the rows themselves (SHA-256)",
    "key_datapoints": "number of rows",
    "key_particles": "particles",
    "key_likelihood": "likelihood",
    "cure": "For the same rows and particles in every run, give --particles and --limit: all runs are then evaluated "
    "anew.",
    "run_without": "{run}: {why}",
    "charts_apart": "Losses that mean different things are in charts of their own. These runs differ in: {what}.",
    "meaning_model": "model",
    "meaning_data": "data",
    "meaning_digest": "the training rows themselves (SHA-256)",
    "meaning_preparation": "preparation of the data",
    "meaning_likelihood": "likelihood",
    "meaning_bound": "bound, or its particles",
    "meaning_weights": "weight of the divergence",
    "meaning_own": "a model of your own, whose loss may be anything",
    "charts_left_out": "Left out, to keep the page small: {names}. `ancestral report` shows them for each run.",
    "last_frame": "at {percent} %",
    "ended_word_all": "all epochs done",
    "ended_word_early": "stopped early",
    "ended_word_not": "not finished",
    "ended_word_none": "no checkpoint yet",
    # gradient estimators
    "gradient_estimators": "Gradient estimators",
    "compared": "Estimators compared",
    "measured": "Measured",
    "measured_columns": "Bias: how far the mean of the gradients lies off, along the direction in which the first half "
    "of them does, measured on the second half; it is called biased above four standard errors. Variance: of "
    "one gradient, summed over the parameters. Of two unbiased estimators, the one with the smaller variance times "
    "time reaches the same precision sooner.",
    "own_estimator": "as the run was trained",
    "promise": "in theory",
    "bias": "bias",
    "seen": "seen",
    "unbiased": "unbiased",
    "biased": "biased",
    "no_bias_seen": "no bias seen",
    "variance": "variance",
    "each_parameter": "per parameter",
    "milliseconds": "ms",
    "variance_times_time": "variance × ms",
    "reference_exact": "The gradient itself is exact, summed over all values of the latent variables: its length is "
    "{norm}.",
    "reference_drawn": "There are too many values to sum over, or they are continuous, so the gradient itself is the "
    "mean of {draws} unbiased gradients ({estimators}, {particles} each): its length is {norm}, with a "
    "standard error of {error}.",
    "measured_help": "Parameters: {parameters}; particles: {particles}.",
    "spread": "Spread of the gradients",
    "spread_help_one": "A dot is one gradient, the thick line their mean; the dashed line is the gradient itself (∇). "
    "What lies outside is drawn at the edge.",
    "spread_help": "A dot is one gradient, as far as it points along the gradient itself (∇, dashed); the thick line "
    "is their mean. What lies outside is drawn at the edge.",
    "wrong_sign": "The likelihood ratio on one Bernoulli variable",
    "wrong_sign_help": "Left: for E[(b - {target})²] with b ~ Bernoulli(μ), the likelihood ratio without a baseline "
    "takes one of two values as the gradient with respect to the logit, depending on b; ∇ is their mean. Right: how "
    "often its sign is not that of ∇. At the mean {mean} (dashed) that is {chance} % of the draws. It is high where "
    "the value that has the right sign is rarely drawn.",
    "relaxation": "Samples of the Gumbel-Softmax distribution",
    "relaxation_help": "A variable with five classes (left, one-hot) and its relaxation at four temperatures, from the "
    "same noise; in the first row the mean. A low temperature is near to the variable, but its gradient varies much; a "
    "high one hides which class was drawn, and the mean is no longer that of the variable: the bias.",
}

JAPANESE = {
    "epoch": "{n} エポック",
    "update": "{n} 回の更新",
    "row": "{n} 行",
    "particle": "{n} 粒子",
    "validation_count": "{n} 回の検証",
    "second": "{n} 秒",
    "minute": "{n} 分",
    "hour": "{n} 時間",
    "title": "{data} を学習した{model}",
    "report_of": "学習結果のレポート",
    "language": "言語",
    "contents": "目次",
    "verdict": "判定",
    "findings": "学習中に見つかった異常",
    "losses": "損失",
    "frames": "学習中の標本",
    "dreams_frames": "学習中の夢",
    "reconstructions": "再構成",
    "columns": "列ごとの結果",
    "latent": "潜在空間",
    "nearest": "最も近い学習データ",
    "neighbors": "標本と最も近い学習データ",
    "neighbors_images": "標本と最も近い学習画像",
    "figures": "評価値",
    "origin": "作り方",
    "missing": "ここにはありません：{why}",
    "made_with": "ancestral "
    "{version} が書きました。このページは一つのファイルで完結し、ネットワークには一切つながりません。",
    "model_vae": "変分オートエンコーダ",
    "model_gan": "敵対的生成ネットワーク",
    "model_sbn": "シグモイド信念ネットワーク",
    "model_helmholtz": "ヘルムホルツマシン",
    "model_hierarchical-vae": "階層的変分オートエンコーダ",
    "model_ladder-vae": "ラダー変分オートエンコーダ",
    "model_categorical-vae": "離散的な潜在変数をもつ変分オートエンコーダ",
    "model_m2": "半教師あり変分オートエンコーダ",
    "model_bayes-classifier": "クラス条件付き生成モデル",
    "model_classifier": "分類器",
    "model_own": "自作のモデル",
    "split_test": "テスト",
    "split_validation": "検証",
    "split_train": "学習",
    "level_good": "使えます",
    "level_care": "注意して使ってください",
    "level_bad": "使わないでください",
    "trained_on": "{model}を {data}（形状 {shape}、{rows}）で学習しました{likelihood}。",
    "with_likelihood": "（尤度は {likelihood}、潜在変数は {latent} 次元）",
    "ended_all": "予定の {epochs}をすべて終えました（{updates}、{time}）。",
    "ended_early": "{epochs}で早期終了しました（{updates}、{time}）。{validations}が続けて改善しなかったためです。",
    "ended_other": "{epochs}で終わりました（{updates}、{time}）：{finished}",
    "ended_not": "まだ終わっていません。{planned}のうち {epochs}まで進みました（{updates}、{time}）。",
    "ended_no_start": "最初のチェックポイントにまだ達していません。",
    "best_validation": "検証損失の最良値は {value} ナット（エポック {epoch}）です。",
    "validation_rising": "その後も学習を続けるうちに、検証損失は "
    "{value} ナットまで上がりました。最後の重みは過学習していますが、最良の重みはしていません。",
    "validation_falling": "最後まで下がり続けていたので、さらに学習すれば良くなる見込みです。",
    "validation_falling_still": "最後まで下がり続けていました。",
    "validation_flat": "終わりのころの変化は、ゆらぎの範囲内でした。",
    "validation_short": "検証の回数が少ないため、傾向は判断できません。",
    "no_validation": "検証用のデータを取り分けていないので、過学習の有無や止めどきは分かりません。",
    "game": "二者のゲームには検証損失がありません。どちらの損失も、標本の良し悪しを表しません。",
    "discriminator": "学習の最後の一割で、識別器の正答率はデータについて {data}、標本について {samples} でした。",
    "bound": "{split}データ {rows}について、{quantity} は {value} ± {error} ナット以上です（{particles}）。",
    "data_note": "データについての注意：{note}。",
    "uniform": "各値が {levels} 段階の一様分布でも {value} ナットになります。",
    "memorized": "{split}データ {held}の半数は log p(x) が {held_median} ナット以下で、学習データ {train}"
    "（中央値 {train_median} ナット）の 95 % よりも低い確率しか与えられていません。",
    "near": "標本は、新しいデータよりもはるかに学習データに近いところにあります。",
    "alike": "標本どうしはデータよりもはるかに似通っています。二つの標本の距離は {samples}、データの二つの行の距離は "
    "{data} です（いずれも中央値）。",
    "far": "標本はデータから遠く離れています。最も近い学習データまでの距離は {samples} で、新しいデータでは {held} です"
    "（いずれも中央値）。",
    "active_units": "{name} の {units} 個のユニットのうち {active} 個が活性です。",
    "finding_past": "途中でおかしいと思われた点は、今はあてはまりません。下をご覧ください。",
    "finding_one": "学習中に、おかしいと思われる点が見つかりました。下をご覧ください。",
    "finding_many": "学習中に、おかしいと思われる点が {n} 件見つかりました。下をご覧ください。",
    "trust_no_weights": "学習済みの重みがないので、まだ何も判断できません。",
    "trust_unfinished": "ここに示すのは途中の結果で、これから変わります。",
    "trust_collapsed": "データの情報をもつ潜在ユニットが一つもありません。事後分布が崩壊し、モデルは潜在変数を無視して"
    "います。潜在空間は使わないでください。",
    "trust_uniform": "新しいデータでの下界が、一様分布にも及びません。使わないでください。",
    "trust_memorized": "学習データを丸暗記しており、新しいデータについてはほとんど何も言えません。データを増やす、"
    "エポック数を減らす、ネットワークを小さくする、のいずれかで学習し直してください。",
    "trust_near": "学習データを繰り返しているおそれがあります。標本を、最も近い学習データと見比べてください。",
    "trust_alike": "標本にはデータのもつ多様さがほとんどありません。モード崩壊です。標本を使わないでください。",
    "trust_far": "標本はデータに似ていないので、データの代わりに使わないでください。",
    "trust_findings": "このモデルに頼る前に、学習中に見つかった点を解決してください。",
    "trust_falling": "使えますが、この設定で届くはずのところまではまだ達していません。",
    "trust_short": "下の評価値は今のモデルについて成り立ちます。学習が短く、続ければどうなるかは判断できません。",
    "trust_unvalidated": "学習損失ではなく、下の評価値（取り分けたデータでのもの）があればそれを信じてください。",
    "trust_game": "標本と、それに最も近い学習データを見て判断してください。品質を保証する数値はここにはありません。",
    "trust_rising": "各コマンドは、検証損失が上がる前の最良の重みを使います。下の評価値が示す範囲で信頼できます。",
    "trust_good": "おかしな点は見つかりませんでした。下の評価値が、それぞれの誤差と種類の範囲で示すとおりに信頼できま"
    "す。",
    "next": "次に",
    "in_english": "{words}（英語）",
    "finding_withdrawn": "学習中、エポック {epoch} で取り消されたので、今はあてはまりません。",
    "check_idle_limit": "効果のない上限",
    "check_idle_batch_size": "データより大きいバッチ",
    "check_cold_average": "重みの移動平均の立ち上がり不足",
    "check_constant_data": "どの行も同じデータ",
    "check_leaked_rows": "学習データに混ざったテストデータ",
    "check_frozen_loss": "動かない損失",
    "check_frozen_weights": "動かない重み",
    "check_loss_spike": "損失の急上昇",
    "check_loss_above_start": "学習前を上回る損失",
    "check_validation_not_finite": "有限でない検証損失",
    "check_overfitting": "過学習",
    "check_discriminator_wins": "識別器の一方的な勝ち",
    "check_posterior_collapse": "事後分布の崩壊",
    "check_mode_collapse": "モード崩壊",
    "check_not_finite": "有限でない値",
    "no_rows": "metrics.jsonl にまだ一行もありません。",
    "chart_share": "識別器の正答率",
    "chart_particles": "有効標本サイズ（粒子数）",
    "chart_weight": "ダイバージェンスの重み",
    "chart_of": "{name}（データ一つあたりのナット）",
    "axis_epochs": "エポック",
    "mark_best": "検証の最良値 {value}",
    "mark_best_bare": "検証の最良点",
    "mark_stop": "早期終了",
    "log_axis": "エポックを対数軸に",
    "whole_range": "すべての値を表示",
    "chart_help": "名前をクリックすると表示を切り替えられます。ポインタを合わせるか、図を選んで矢印キーを押すと値を読"
    "み取れます。学習の初めの値は図の上にはみ出すことがあります。「すべての値を表示」で見られます。",
    "chart_label": "図：{title}。矢印キーで値を読み取れます。",
    "no_frames_table": "データが画像ではないため、学習中の画像はありません。",
    "see_columns": "下の「列ごとの結果」をご覧ください。",
    "no_frames": "samples/ フォルダに画像がありません。",
    "frames_help": "スライダーか矢印キーで学習の経過をたどれます。百分率は予定した学習全体に対するものです。",
    "frame_slider": "学習の進み具合",
    "frame": "{percent} %",
    "frame_epoch": "{percent} %、エポック {epoch}",
    "samples_at": "学習 {percent} % での標本",
    "dreams_help": "マシンが見る夢、つまり最上層から順に p から抽出したものです。",
    "dreams_taught": "睡眠フェーズでは、q はこうした幻想から学習します。",
    "dreams_at": "学習 {percent} % での夢",
    "dreams": "夢",
    "reconstructions_at": "学習 {percent} % での検証画像とその再構成の組",
    "samples": "標本",
    "pairs": "画像（左）とその再構成（右）",
    "no_weights": "チェックポイントがまだないため、モデルを使えません。",
    "no_encoder": "このモデルにはエンコーダがなく、再構成はできません。",
    "no_held_out": "取り分けたデータがありません。",
    "no_density": "このモデルには密度 p(x | z) がありません。",
    "reconstructions_help": "{split}データ {rows}を E[log p(x | z)]（ナット、q(z | x) からの {particles}の平均）の順に"
    "並べました。左が元のデータ、右が q(z | x) {where}における p(x | z) の平均です。",
    "at_the_mean": "の平均",
    "at_a_draw": "から引いた値",
    "best": "最良",
    "median": "中央",
    "worst": "最悪",
    "original_and_reconstruction": "行 {row} の元のデータと再構成：{value} ナット",
    "nats": "{value} ナット",
    "prediction_help": "モデルには {given} だけを与えています。{observed} は見ておらず、ここにあるのはその予測です。",
    "columns_help": "{split}データ {rows}について、元の単位で示します。誤差は元の値と再構成の差の二乗平均平方根です。"
    "その右は列の標準偏差に対する比で、1 なら常に平均を答えるのと同じです。",
    "columns_help_samples": "{split}データ {rows}と、同じ数の標本を、元の単位で示します。",
    "columns_drawn": "再構成は q(z | x) から引いた値によります（平均は閉じた式になりません）。",
    "columns_more": "{all} 列のうち最初の {shown} 列です。",
    "column": "列",
    "data_mean": "データ：平均 ± 標準偏差",
    "sample_mean": "標本：平均 ± 標準偏差",
    "error": "再構成誤差",
    "error_share": "標準偏差比",
    "latent_game": "このモデルには潜在変数の事後分布がなく、データを潜在変数に写せません。",
    "latent_no_means": "このモデルの事後平均は閉じた形では求まりません。",
    "latent_of_p": "{drawn} は p そのものから、{given} だけを与えて抽出されます。ここで事後分布と呼ぶものは、"
    "モデルが予測する {observed} を見ていません。",
    "map_title": "{name} の図",
    "map_direct": "{split}データ {rows}の事後平均です。{name} の二つの次元をそのまま示します。",
    "map_components": "{split}データ {rows}の事後平均です。"
    "{name} の {units} 次元の第一・第二主成分で、分散の {share} を占めます。",
    "map_averaged": "どれも、{before}{draws} 回の抽出についての平均です。",
    "map_before": "q が {name} より先に抽出する変数の、",
    "map_own": "",
    "map_one": "{name} は一次元です。地図には二次元が必要です。",
    "map_still": "事後平均がどの行でも同じなので、描くものがありません。",
    "map_colored": "色はラベルを表します。",
    "map_many_classes": "クラスが {classes} 個あり、色では区別できません。",
    "map_no_labels": "データにラベルがないため、点はすべて同じ色です。",
    "map_help": "点にポインタを合わせるか、図を選んで矢印キーを押すと、その行が見られます。",
    "map_label": "{name} の事後平均の図。矢印キーで行から行へ移ります。",
    "class": "ラベル {label}",
    "without_class": "ラベルなし",
    "point": "行 {row}",
    "point_class": "行 {row}、ラベル {label}",
    "component": "第 {n} 主成分",
    "unit_axis": "{name} のユニット {n}",
    "kl_title": "{name} の各ユニットの KL ダイバージェンス（ナット）",
    "kl_help": "E[log q(z | x) - log p(z)] を大きい順に並べました。塗りつぶした棒は活性なユニット（事後平均のデータ上の"
    "分散が {threshold} を超えるもの）で、{units} 個のうち {active} 個です。",
    "information": "{name}：{value} ナット{error}（{kind}、{estimator}）。",
    "information_help": "相互情報量は、q からの抽出がデータについてどれだけのことを伝えるかを表します。事前分布からの"
    "ダイバージェンスのうち、集約事後分布のダイバージェンス KL(q(z) || p(z)) を除いた部分です。混合が許す最大値に"
    "近い下界は、実際はそれより大きいことだけを示します。",
    "kl_none": "ここではユニットごとのダイバージェンスが閉じた形で求まりません。",
    "kl_more": "{units} 個のうち大きいほうから {shown} 個です。",
    "kl_unit": "ユニット {unit}：KL {kl} ナット、平均の分散 {activity}、{state}",
    "active": "活性",
    "inactive": "不活性",
    "unit": "ユニット",
    "activity": "平均の分散",
    "state": "状態",
    "as_table": "表で見る",
    "manifold": "多様体",
    "manifold_help": "z の格子点における p(x | z) の平均です。格子は事前分布の確率が等間隔になるように取りました。",
    "layers": "各層が決めるもの",
    "layers_one": "潜在変数の層は一つだけです。",
    "layers_help": "各行では {above} の一つの抽出値を保ち、列ごとに {below} を抽出し直しています。"
    "示すのは p(x | z) の平均で、求まらない場合は x の抽出値です。",
    "manifold_only_two": "復号した結果の地図には、ちょうど二次元の潜在変数が必要で、ラベルなど、ほかに抽出される変数"
    "があれば描けません。",
    "manifold_prior": "格子は標準正規分布に従いますが、このモデルの事前分布はそれとは異なります。",
    "manifold_table": "データが画像ではありません。",
    "neighbors_help": "左がモデルの標本、右がユークリッド距離で最も近い学習データです。距離をその下に書きました。",
    "neighbors_part": "モデルには {given} を与えているので、抽出される {observed} だけを比べます。",
    "neighbors_mean": "標本は p(x | z) の平均で示します。",
    "neighbors_distance": "最も近い学習データまでの距離の中央値は、抽出した {draws} 個の標本で {samples}{means}、"
    "{split}データ {rows}で {held} です。",
    "neighbors_means": "、同じ数の p(x | z) の平均で {means}",
    "neighbors_far_from_proof": "雑音や小さな変更の加わった写しは、新しいデータと同じくらい離れて見えることがあります。"
    "距離だけでは、繰り返していないとは言えません。",
    "neighbors_density": "log p(x) の中央値は、学習データ {train}で {train_median} ナット、{split}データ {held}で "
    "{held_median} ナットです（いずれも下界、{particles}）。",
    "neighbors_variety": "二つの標本の距離は {samples}、{split}データの二つの行の距離は {data} です"
    "（いずれも中央値）。",
    "neighbors_table": "標本は画像ではないため、距離だけを、モデルから見た単位で示します。",
    "sample_and_nearest": "標本と最も近い学習画像、距離 {distance}",
    "no_figures": "このモデルには密度がなく、評価する限界がありません。",
    "figures_stored": "evaluation.json の値です（重みは {weights}）。",
    "figures_not_compared": "今の重みについての値かどうかは確かめられませんでした。",
    "figures_quick": "このページのために簡易評価をしました：{rows}、{particles}、重みは {weights}、{seconds} 秒。",
    "figures_stale": "evaluation.json は今の重みについてのものではないので使いませんでした。",
    "ladder": "尤度のはしご",
    "ladder_help": "低いものから順に、同じ目盛り（ナット）で並べています。帯は、求まる場合のモンテカルロ誤差、つまり"
    "シードを変えたときのずれを表す標準誤差です。",
    "ladder_rows": "行についての標準誤差（最大 {error} ナット）は、どの推定も同じ行を使うため、帯には含めていません。",
    "figures_full": "すべての行を、より多くの粒子で評価するには：",
    "quantity": "量",
    "value": "値",
    "standard_error": "± 標準誤差",
    "kind": "種類",
    "estimator": "推定方法",
    "data_digest": "データとダイジェスト",
    "seed": "シード",
    "published": "公表値",
    "published_at": "{value} ナット（{kind}、{estimator}{units}、{source}）",
    "published_units": "、活性ユニット {units} 個",
    "difference": "条件の違い：",
    "differ_passes": "公表値はバッチサイズ {batch} で {passes} 周、この学習はバッチサイズ {own_batch} で {own} 周",
    "differ_optimizer": "公表値の最適化は {published}、ここでは {own}",
    "differ_schedule": "公表値の学習率は {published}、ここでは {own}",
    "differ_train": "公表値の学習画像は {rows} 枚、ここでは {own} 枚",
    "differ_particles": "公表値は画像あたり {particles} 粒子、ここでは {own} 粒子",
    "differ_rows": "公表値のテスト画像は {rows} 枚、ここでは {own} 枚",
    "differ_draws": "テスト画像の二値化の乱数が異なる",
    "kind_exact": "厳密",
    "kind_lower bound": "下界",
    "kind_upper bound": "上界",
    "kind_estimate": "推定値",
    "kind_part of a bound": "限界の一部",
    "command": "実行したコマンド",
    "no_command": "environment.json にコマンドの記録がありません。",
    "command_other": "自作のプログラムから実行されました：",
    "settings": "設定",
    "setting": "設定",
    "environment": "バージョンとデータ",
    "card": "モデルカード",
    "no_card": "MODEL_CARD.md がありません。学習が終わると書かれます。",
    "parameters": "パラメータ数",
    "platform": "プラットフォーム",
    "git": "git コミット",
    "rows_digest": "{split}データの SHA-256",
    "comparison": "学習結果の比較",
    "comparison_of": "{n} 個の学習結果の比較",
    "runs": "学習結果",
    "run": "フォルダ",
    "what": "モデルとデータ",
    "ended": "終わり方",
    "best_at": "検証損失の最良値（ナット）",
    "at_epoch": "{value}（エポック {epoch}）",
    "weights": "重み",
    "settings_differ": "異なる設定",
    "settings_same": "設定はすべて同じです。",
    "one_group": "同じ行、同じ尤度、同じ粒子数での値なので、一つの表に並べます。",
    "many_groups": "次の点が異なり互いに比べられないため、{n} 個の表に分けます：",
    "differs": "{what}：{values}",
    "key_quantity": "測る量",
    "key_data": "データと前処理",
    "key_digest": "行そのもの（SHA-256）",
    "key_datapoints": "行数",
    "key_particles": "粒子数",
    "key_likelihood": "尤度",
    "cure": "同じ行数と粒子数で比べるには、--particles と --limit を付けてください。すべての学習結果を評価し直します。",
    "run_without": "{run}：{why}",
    "charts_apart": "意味の異なる損失は別の図に分けています。異なるのは次の点です：{what}。",
    "meaning_model": "モデル",
    "meaning_data": "データ",
    "meaning_digest": "学習データの行そのもの（SHA-256）",
    "meaning_preparation": "データの前処理",
    "meaning_likelihood": "尤度",
    "meaning_bound": "限界またはその粒子数",
    "meaning_weights": "ダイバージェンスの重み",
    "meaning_own": "自作のモデル（損失の意味はモデルしだいです）",
    "charts_left_out": "ページを小さく保つため、次の図は省きました：{names}。"
    "`ancestral report` で学習ごとに見られます。",
    "last_frame": "学習 {percent} %",
    "ended_word_all": "全エポック終了",
    "ended_word_early": "早期終了",
    "ended_word_not": "途中",
    "ended_word_none": "チェックポイントなし",
    "gradient_estimators": "勾配推定",
    "compared": "推定法の比較",
    "measured": "測定結果",
    "measured_columns": "バイアス：勾配の平均のずれ。前半の抽出でのずれの方向を、後半の抽出で測ります。標準誤差の 4 "
    "倍を超えるときに「偏りあり」とします。分散：勾配 1 "
    "回分の、全パラメータについての和。不偏な推定法どうしでは、分散×時間の小さいほうが同じ精度に早く達します。",
    "own_estimator": "学習時の設定",
    "promise": "理論上",
    "bias": "バイアス",
    "seen": "観測",
    "unbiased": "不偏",
    "biased": "偏りあり",
    "no_bias_seen": "偏りは見られない",
    "variance": "分散",
    "each_parameter": "パラメータあたり",
    "milliseconds": "ミリ秒",
    "variance_times_time": "分散×ミリ秒",
    "reference_exact": "真の勾配は、潜在変数のすべての値について和をとった厳密な値です。長さは {norm} です。",
    "reference_drawn": "値が多すぎるか連続なので和をとれません。真の勾配の代わりに、不偏な勾配 {draws} "
    "回（{estimators}、各 {particles}）の平均を使います。長さは {norm}、標準誤差は {error} です。",
    "measured_help": "パラメータ数：{parameters}、粒子数：{particles}。",
    "spread": "勾配の散らばり",
    "spread_help_one": "点は勾配 1 回分、太い線はその平均、破線は真の勾配（∇）です。範囲の外にあるものは端に描きます。",
    "spread_help": "点は勾配 1 回分の、真の勾配（∇、破線）方向の成分、太い線はその平均です。"
    "範囲の外にあるものは端に描きます。",
    "wrong_sign": "ベルヌーイ変数一つの尤度比推定",
    "wrong_sign_help": "左：b ~ Bernoulli(μ) のとき、E[(b - {target})²] "
    "のロジットについての勾配を、ベースラインなしの尤度比法で推定すると、b の値に応じて二つの値のどちらかになります。∇ "
    "はその平均です。右：その符号が ∇ の符号と異なる確率。平均 {mean}（破線）では {chance} % です。"
    "正しい符号を与える値がめったに出ないところで高くなります。",
    "relaxation": "Gumbel-Softmax 分布のサンプル",
    "relaxation_help": "5 クラスの変数（左、one-hot）と、同じ雑音による四つの温度での緩和。最初の行は平均です。"
    "温度が低いと元の変数に近いものの、勾配の分散が大きくなります。"
    "温度が高いとどのクラスが出たかが薄れ、平均も元の変数と異なります。これがバイアスです。",
}


@dataclass(frozen=True)
class Text:
    """The same in both languages."""

    en: str
    ja: str


def say(key: str, **values: object) -> Text:
    """A phrase with its values filled in; those that are ``Text`` themselves in the language at hand."""
    english = {name: value.en if isinstance(value, Text) else value for name, value in values.items()}
    japanese = {name: value.ja if isinstance(value, Text) else value for name, value in values.items()}
    return Text(ENGLISH[key].format(**english), JAPANESE[key].format(**japanese))


def counted(n: float, thing: str) -> Text:
    """``1 epoch``, ``2 epochs``, ``2.5 epochs``."""
    number = f"{round(n):,}" if abs(n - round(n)) < 0.05 else f"{n:,.1f}"
    one, _, many = ENGLISH[thing].partition("|")
    return Text((one if number == "1" else many).format(n=number), JAPANESE[thing].format(n=number))


def duration(seconds: float) -> Text:
    """Seconds in the unit that suits them."""
    if seconds < 90:
        return counted(seconds, "second")
    return counted(seconds / 60, "minute") if seconds < 5400 else counted(seconds / 3600, "hour")


def joined(*texts: Text) -> Text:
    """Sentences one after another."""
    return Text(" ".join(text.en for text in texts), "".join(text.ja for text in texts))


KNOWN = (
    ("bits per dimension", "次元あたりのビット数"),
    ("active units of (.+)", r"\1 の活性ユニット数"),
    ("accuracy", "正解率"),
    (r"the most probable class of ([pq])\(y \| x\)", r"\1(y | x) が最大のクラス"),
    (r"the most probable class of p\(y \| x\) by Bayes' rule", "ベイズの定理による p(y | x) が最大のクラス"),
    (
        r"the most probable class of p\(y \| x\) by Bayes' rule, (\d+) particles of each class",
        r"ベイズの定理による p(y | x) が最大のクラス（クラスごとに \1 粒子）",
    ),
    ("log loss", "対数損失"),
    ("log loss, scaled", "温度調整後の対数損失"),
    (r"-log ([pq])\(y \| x\)", r"-log \1(y | x)"),
    (r"-log p\(y \| x\) by Bayes' rule", "ベイズの定理による -log p(y | x)"),
    (
        r"-log p\(y \| x\) by Bayes' rule, (\d+) particles of each class",
        r"ベイズの定理による -log p(y | x)（クラスごとに \1 粒子）",
    ),
    ("calibration error", "較正誤差"),
    ("calibration error, scaled", "温度調整後の較正誤差"),
    (r"(\d+) bins of the largest probability", r"最大の確率を \1 区間に分けて計算"),
    ("temperature", "温度"),
    (r"the least log loss of ([\d,]+) validation rows", r"検証データ \1 行の対数損失を最小にする値"),
    ("score", "分布外スコア"),
    ("score of (.+)", r"\1 の分布外スコア"),
    ("AUROC against (.+)", r"\1 に対する AUROC"),
    (r"1 - largest (.+), which is no density of x", r"1 - 最大の \1（x の密度ではない）"),
    ("approximation gap", "近似ギャップ"),
    ("amortization gap", "償却ギャップ"),
    (
        r"Gaussians of each datapoint optimized in ([\d,]+) steps, ELBOs by ([\d,]+) particles",
        r"データごとのガウス分布を \1 歩で最適化、ELBO は \2 粒子による",
    ),
    ("density without latent variables", "潜在変数のない密度"),
    ("nats", "ナット"),
    ("bits", "ビット"),
    (r"of (\d+)", r"（\1 個中）"),
    (r"importance-weighted, (\d+) particles from q", r"重点サンプリング、q からの \1 粒子"),
    (r"mean over (\d+) draws from q", r"q から抽出した \1 個についての平均"),
    ("gap of ais", "焼きなまし重点サンプリングの上下の差"),
    ("effective sample size", "有効標本サイズ"),
    (r"weights of (\d+) particles from q", r"q からの \1 粒子の重み"),
    ("mutual information of (.+) and (.+)", r"\1 と \2 の相互情報量"),
    (
        "mixture of q of (.+) rows, at most (.+), sum over all values",
        r"\1 行についての q の混合、最大 \2、すべての値についての和",
    ),
    ("mixture of q of (.+) rows, at most (.+), (.+) draws", r"\1 行についての q の混合、最大 \2、抽出 \3 個"),
    (r"(\d+) draws of the model", r"モデルからの抽出 \1 個"),
    ("sum over all values of the latent variables", "潜在変数のすべての値についての和"),
    (
        r"annealed importance sampling, (.+) temperatures, (.+) chains from (p\(z\)|q), (.+) leapfrog steps",
        r"焼きなまし重点サンプリング、\1 温度、\3 からの \2 連鎖、リープフロッグ \4 歩",
    ),
    (
        r"upper less lower estimate, annealed importance sampling, (.+) temperatures, (.+) chains from (p\(z\)|q), "
        "(.+) leapfrog steps",
        r"上側と下側の推定値の差、焼きなまし重点サンプリング、\1 温度、\3 からの \2 連鎖、リープフロッグ \4 歩",
    ),
    (
        r"density fitted to posterior draws, (.+) chains from (p\(z\)|q), (.+) leapfrog steps",
        r"事後分布からの抽出に合わせた密度、\2 からの \1 連鎖、リープフロッグ \3 歩",
    ),
    ("variance over data of the posterior mean above ([^,]+)", r"事後平均のデータ上の分散が \1 を超えるもの"),
    (
        "variance over data of the posterior mean above ([^,]+), by (.+) draws of the variables before it",
        r"事後平均のデータ上の分散が \1 を超えるもの（先に抽出される変数の \2 回の抽出による）",
    ),
    (
        r"variance over data of the posterior mean above ([^,]+), by (\d+) draws",
        r"事後平均のデータ上の分散が \1 を超えるもの（\2 回の抽出による）",
    ),
    (
        "variance over data of the mean of p given what is known above ([^,]+)",
        r"与えられた値のもとでの p の平均のデータ上の分散が \1 を超えるもの",
    ),
    (
        "variance over data of the mean of p given what is known above ([^,]+), by (.+) draws of the variables "
        "before it",
        r"与えられた値のもとでの p の平均のデータ上の分散が \1 を超えるもの（先に抽出される変数の \2 回の抽出による）",
    ),
    ("test", "テスト"),
    ("validation", "検証"),
    ("train", "学習"),
    (r"(\d+) rows", r"\1 行"),
    (r"first (\d+) rows", r"最初の \1 行"),
    ("binarization none", "二値化なし"),
    ("binarization threshold", "しきい値による二値化"),
    ("binarization static", "静的な二値化"),
    ("binarization dynamic", "動的な二値化"),
    ("dequantized", "逆量子化"),
    ("standardized columns", "列ごとに標準化"),
    (
        "a video, split in blocks of adjoining frames: neighbors are near copies, so that the standard error of an "
        "average over frames is too small",
        "動画を、連続するコマのまとまりごとに分けたもの。隣り合うコマはほぼ同じなので、平均の標準誤差は小さすぎます",
    ),
)
"""What figures are called, in English and Japanese: regular expressions, and what they become."""
DATA = re.compile(r"(.+), (train|validation|test)(?:, ([^()]+))?(?: \((.+)\))?")
"""Name, split, rows and preparation, and note."""


def known(text: str) -> Text:
    """A name, unit, estimator or description of data of a figure; what is not known stays as it is."""
    for pattern, japanese in KNOWN:
        if re.fullmatch(pattern, text):
            return Text(text, re.sub(pattern, japanese, text))
    found = DATA.fullmatch(text)
    if found is None:
        return Text(text, text)
    name, split, parts, note = found.groups()
    whole = "、".join([name, *(known(part).ja for part in (split, *(parts or "").split(", ")) if part)])
    return Text(text, whole + (f"（{known(note).ja}）" if note else ""))


def untranslated(text: str) -> Text:
    """A message that there is in English alone, marked as such for the Japanese reader."""
    return say("in_english", words=text)
