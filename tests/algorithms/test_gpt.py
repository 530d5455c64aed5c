"""The language model: it looks back only, its positions are relative, it learns, and it continues a prompt."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from algorithms.gpt import GPT, rotary, rotate
from trainer.algorithm import Batch
from trainer.data.schema import Schema
from trainer.errors import UserError

CONF = Path(__file__).parents[2] / "conf"
TEXT = Schema(text=True)


def small(**settings: object) -> GPT:
    return GPT(**{"layers": 2, "heads": 4, "width": 32, "context": 16, **settings})


def built(algorithm: GPT) -> nn.Module:
    """A model whose weights are large enough that every path through it shows in the logits."""
    torch.manual_seed(0)
    model = algorithm.build(TEXT)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(10)
    return model.eval()


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, 256, (rows, length), generator=torch.Generator().manual_seed(1))


def batch_of(x: torch.Tensor) -> Batch:
    return Batch(x, None, len(x), len(x))


@pytest.mark.parametrize("kv_heads", [None, 2, 1])
def test_a_token_changes_no_logits_before_it_and_those_from_it_on(kv_heads: int | None) -> None:
    model = built(small(kv_heads=kv_heads))
    x = tokens(1, 12)
    changed = x.clone()
    changed[0, 7] = (x[0, 7] + 1) % 256
    difference = (model(x) - model(changed)).abs().amax(dim=2)[0]
    assert difference[:7].max() < 1e-5
    assert (difference[7:] > 1e-4).all()


def test_rotated_queries_and_keys_see_only_how_far_apart_they_are() -> None:
    generator = torch.Generator().manual_seed(2)
    query, key = torch.randn(2, 1, 8, generator=generator)

    def score(at: int, of: int) -> float:
        turned = [rotate(v, *rotary(p, 1, 8, v.device)) for v, p in ((query, at), (key, of))]
        return float(turned[0].flatten() @ turned[1].flatten())

    assert score(3, 1) == pytest.approx(score(103, 101), rel=1e-3)
    assert score(5, 5) == pytest.approx(float(query.flatten() @ key.flatten()), rel=1e-4)
    assert abs(score(3, 1) - score(4, 1)) > 1e-3


def test_rotation_is_the_papers_formula() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    turned = rotate(x, *rotary(6, 1, 4, x.device))[0]
    for pair, rate in enumerate((1.0, 0.01)):  # 10000^(-2i/4)
        a, b, angle = float(x[0, pair]), float(x[0, pair + 2]), 6 * rate
        assert float(turned[pair]) == pytest.approx(a * math.cos(angle) - b * math.sin(angle), rel=1e-5)
        assert float(turned[pair + 2]) == pytest.approx(a * math.sin(angle) + b * math.cos(angle), rel=1e-5)


def test_a_block_is_norm_attention_norm_and_a_gated_layer() -> None:
    algorithm = small(layers=1, kv_heads=2)
    model, x = built(algorithm), tokens(2, 9)
    block = model.blocks[0]

    def norm(v: torch.Tensor) -> torch.Tensor:
        return v / (v.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    stream = model.embedding.weight[x]
    q, k, v = block.qkv(norm(stream)).split((32, 16, 16), dim=-1)
    rotation = rotary(0, 9, 8, x.device)
    mask = torch.full((9, 9), -math.inf).triu(1)
    heads = []
    for head in range(4):
        mine, shared = slice(8 * head, 8 * head + 8), slice(8 * (head // 2), 8 * (head // 2) + 8)
        scores = rotate(q[..., mine], *rotation) @ rotate(k[..., shared], *rotation).transpose(1, 2)
        heads.append((scores / math.sqrt(8) + mask).softmax(-1) @ v[..., shared])
    stream = stream + block.out(torch.cat(heads, dim=-1))
    gate, up = block.up(norm(stream)).split(block.up.out_features // 2, dim=-1)
    stream = stream + block.down(gate * gate.sigmoid() * up)
    torch.testing.assert_close(model(x), norm(stream) @ model.embedding.weight.T, rtol=1e-4, atol=1e-4)


def test_the_output_layer_is_the_embedding() -> None:
    model = small().build(TEXT)
    assert not any("head" in name for name, _ in model.named_parameters())
    x = tokens(1, 4)
    before = model(x)
    with torch.no_grad():
        model.embedding.weight[65] *= 3
    assert not torch.equal(model(x)[..., 65], before[..., 65])


def test_the_loss_is_the_mean_cross_entropy_of_the_next_tokens() -> None:
    algorithm = small()
    model, x = built(algorithm), tokens(3, 17)
    chances = model(x[:, :-1]).log_softmax(-1)
    expected = -chances.gather(2, x[:, 1:, None]).mean()
    torch.testing.assert_close(algorithm.loss(model, batch_of(x)), expected)
    columns = algorithm.predict(model, batch_of(x))
    torch.testing.assert_close(columns["loss"].mean(), expected)
    torch.testing.assert_close(columns["perplexity"], columns["loss"].exp())


def test_metrics_are_loss_perplexity_and_bits_per_byte() -> None:
    metrics = small().summarize({"loss": 2.0})
    assert metrics == {"loss": 2.0, "perplexity": math.exp(2), "bits_per_byte": 2 / math.log(2)}


def test_a_fresh_model_guesses_evenly() -> None:
    algorithm = small()
    loss = algorithm.loss(algorithm.build(TEXT), batch_of(tokens(8, 17)))
    assert loss.item() == pytest.approx(math.log(256), abs=0.1)


def test_it_learns_one_batch_by_heart() -> None:
    torch.manual_seed(0)
    algorithm = small(lr=1e-2, warmup=5)
    model, batch = algorithm.build(TEXT), batch_of(tokens(4, 17))
    optimizer = algorithm.optimizer(model)
    schedule = algorithm.schedule(optimizer, 150)
    for _ in range(150):
        optimizer.zero_grad()
        algorithm.loss(model, batch).backward()
        optimizer.step()
        schedule.step()
    assert algorithm.loss(model, batch).item() < 0.05


def test_with_dropout_training_is_random_and_evaluation_is_not() -> None:
    algorithm = small(dropout=0.5)
    model, batch = built(algorithm), batch_of(tokens(2, 17))
    assert torch.equal(algorithm.loss(model, batch), algorithm.loss(model, batch))
    model.train()
    assert not torch.equal(algorithm.loss(model, batch), algorithm.loss(model, batch))


def test_only_matrices_decay() -> None:
    model = small().build(TEXT)
    decayed, kept = small(weight_decay=0.3).optimizer(model).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert all(p.ndim == 2 for p in decayed["params"])
    assert len(kept["params"]) == 5  # two norms a block, one at the end


def test_the_rate_warms_up_then_follows_a_cosine_to_its_floor() -> None:
    algorithm = small(lr=1.0, warmup=10, min_lr=0.2)
    optimizer = algorithm.optimizer(small().build(TEXT))
    schedule = algorithm.schedule(optimizer, 110)
    rates = []
    for _ in range(111):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.6)
    assert rates[110] == pytest.approx(0.2)


@pytest.mark.parametrize("kv_heads", [None, 2])
def test_with_a_cache_the_logits_are_those_of_the_whole_text(kv_heads: int | None) -> None:
    model, x = built(small(kv_heads=kv_heads)), tokens(2, 12)
    caches: list[list[torch.Tensor]] = [[], []]
    parts = [model(x[:, :5], caches=caches)]
    parts += [model(x[:, i : i + 1], caches=caches) for i in range(5, 12)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(x), rtol=1e-4, atol=1e-4)


def test_greedy_continuation_takes_the_likeliest_token_each_time() -> None:
    algorithm = small()
    model = built(algorithm)
    text = list(b"hello")
    for _ in range(8):
        text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    expected = bytes(text[5:]).decode("utf-8", errors="replace")
    assert algorithm.generate(model, "hello", tokens=8, temperature=0) == expected


def test_a_continuation_depends_on_its_seed_alone() -> None:
    algorithm = small()
    model = algorithm.build(TEXT)
    first = algorithm.generate(model, "x", tokens=40, seed=1)
    torch.rand(3)
    assert algorithm.generate(model, "x", tokens=40, seed=1) == first
    assert algorithm.generate(model, "x", tokens=40, seed=2) != first
    assert model.training


def test_of_top_k_one_only_the_likeliest_is_drawn() -> None:
    algorithm = small()
    model = built(algorithm)
    greedy = algorithm.generate(model, "abc", tokens=10, temperature=0)
    assert algorithm.generate(model, "abc", tokens=10, temperature=2.0, top_k=1) == greedy


def test_a_text_goes_on_beyond_the_context_and_an_empty_prompt_will_do() -> None:
    algorithm = small(context=4)
    model = algorithm.build(TEXT)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    algorithm.generate(model, "a prompt longer than four bytes", tokens=9)
    assert max(seen) == 4
    assert seen.count(1) > len(seen) / 2  # the cache carries most steps
    assert len(algorithm.generate(model, "", tokens=5)) > 0


def test_an_unknown_option_of_a_continuation_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'temperature'"):
        small().generate(nn.Linear(1, 1), "x", temprature=1.0)


def test_bytes_are_the_tokens_of_a_text() -> None:
    algorithm = small()
    assert algorithm.sequence_length == 16
    assert algorithm.tokenizer_key() == "bytes"
    np.testing.assert_array_equal(algorithm.tokenize("é!"), [0xC3, 0xA9, 0x21])


WORDS = {"[UNK]": 0, "to": 1, "be": 2, "or": 3, "not": 4}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    pytest.importorskip("tokenizers")
    file = tmp_path / "words.json"
    model = {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]"}
    file.write_text(json.dumps({"version": "1.0", "pre_tokenizer": {"type": "Whitespace"}, "model": model}))
    return file


def test_a_tokenizer_file_gives_tokens_and_travels_with_the_model(tokenizer: Path, tmp_path: Path) -> None:
    algorithm = small(tokenizer=str(tokenizer))
    key = algorithm.tokenizer_key()
    np.testing.assert_array_equal(algorithm.tokenize("to be or not to be"), [1, 2, 3, 4, 1, 2])
    model = algorithm.build(TEXT)
    assert model.embedding.num_embeddings == 5
    assert "bits_per_byte" not in algorithm.summarize({"loss": 1.0})
    folder = tmp_path / "model"
    folder.mkdir()
    algorithm.save(folder)
    tokenizer.unlink()
    loaded = small(tokenizer=str(tokenizer))
    loaded.load(folder)
    assert loaded.tokenizer_key() == key
    assert set(loaded.generate(model, "to be", tokens=6).split()) <= set(WORDS)


def test_a_tokenizer_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(UserError, match=r"there is no file .*none\.json"):
        small(tokenizer=str(tmp_path / "none.json")).build(TEXT)
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(UserError, match=r"broken\.json is not a tokenizer"):
        small(tokenizer=str(broken)).tokenizer_key()


@pytest.mark.parametrize(
    ("settings", "says"), [({"width": 30}, "multiple of twice"), ({"kv_heads": 3}, "does not divide")]
)
def test_sizes_that_do_not_fit_are_refused(settings: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        small(**settings)


def test_a_model_made_on_the_meta_device_becomes_the_same_one() -> None:
    algorithm = small()
    with torch.device("meta"):
        model = algorithm.build(TEXT)
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    model.initialize()
    reference = algorithm.build(TEXT)
    torch.manual_seed(0)
    reference.initialize()
    x = tokens(1, 5)
    torch.testing.assert_close(model(x), reference(x))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_flops_are_six_a_weight_and_token_and_those_of_attention() -> None:
    algorithm = small()
    weights = sum(p.numel() for p in algorithm.build(TEXT).parameters())
    assert algorithm.flops_per_sample(TEXT) == 16 * (6 * weights + 12 * 2 * 32 * 16)


def test_the_config_file_lists_every_setting_with_its_default() -> None:
    config = yaml.safe_load((CONF / "algorithm" / "gpt.yaml").read_text())
    assert config.pop("_target_") == "algorithms.gpt.GPT"
    assert config.pop("_space_")
    assert config == asdict(GPT())


@pytest.mark.parametrize(("name", "billions"), [("gpt_small", 0.124), ("gpt_1b", 1.03), ("gpt_7b", 6.6)])
def test_a_larger_size_has_as_many_weights_as_its_file_says(name: str, billions: float) -> None:
    with initialize_config_dir(str(CONF), version_base=None):
        config = OmegaConf.to_container(compose(f"algorithm/{name}").algorithm)
    assert config.pop("_target_") == "algorithms.gpt.GPT"
    assert config.pop("_space_")
    algorithm = GPT(**config)
    with torch.device("meta"):
        weights = sum(p.numel() for p in algorithm.build(TEXT).parameters())
    words = (50_000 if name == "gpt_small" else 32_000) - 256
    assert weights + words * algorithm.width == pytest.approx(billions * 1e9, rel=0.01)
