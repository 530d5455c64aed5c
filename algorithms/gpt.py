"""A decoder-only language model in current form, from a laptop's size to billions of weights."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.algorithm import Batch, Module, Range
from trainer.data.schema import Schema
from trainer.errors import UserError, did_you_mean, pip_install

BYTES = 256


@dataclass(kw_only=True)
class GPT(Module):
    """A Transformer that predicts the next token (Radford et al., 2019), built as LLaMA is (arXiv:2302.13971).

    Pre-normalisation by RMSNorm (arXiv:1910.07467), rotary positions (RoFormer, arXiv:2104.09864), SwiGLU
    (arXiv:2002.05202), grouped-query attention (arXiv:2305.13245) and an output layer tied to the embedding
    (arXiv:1608.05859); no biases. AdamW (arXiv:1711.05101) decays matrices only; the learning rate rises over
    `warmup` steps, then follows a cosine down to `min_lr` of its height.
    """

    lr: Annotated[float, Range(above=0)] = 3e-3
    layers: Annotated[int, Range(min=1)] = 4
    heads: Annotated[int, Range(min=1)] = 4
    kv_heads: Annotated[int, Range(min=1)] | None = None
    width: Annotated[int, Range(min=2)] = 128
    hidden: Annotated[int, Range(min=1)] | None = None
    context: Annotated[int, Range(min=2)] = 64
    tokenizer: str | None = None
    end_of_text: str = "\n"
    dropout: Annotated[float, Range(min=0, below=1)] = 0.0
    weight_decay: Annotated[float, Range(min=0)] = 0.1
    warmup: Annotated[int, Range(min=0)] = 50
    min_lr: Annotated[float, Range(min=0, max=1)] = 0.1
    beta1: Annotated[float, Range(min=0, below=1)] = 0.9
    beta2: Annotated[float, Range(min=0, below=1)] = 0.95

    takes: ClassVar[frozenset[str]] = frozenset({"text"})

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise UserError(
                f"algorithm.width: {self.width} must be a multiple of twice algorithm.heads={self.heads}, "
                "as each head's width is even"
            )
        if self.heads % (self.kv_heads or self.heads):
            raise UserError(f"algorithm.kv_heads: {self.kv_heads} does not divide algorithm.heads={self.heads}")
        self.sequence_length = self.context
        self._tokenizer_file = Path(self.tokenizer) if self.tokenizer else None
        self._loaded_tokenizer: Any = None

    def target(self, schema: Schema) -> str | None:
        return None

    def build(self, schema: Schema) -> Transformer:
        hidden = self.hidden or -(-8 * self.width // (3 * 64)) * 64
        return Transformer(
            vocabulary=self._vocabulary(),
            layers=self.layers,
            shape=Shape(self.width, self.heads, self.kv_heads or self.heads, hidden, self.dropout),
        )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(batch.x[:, :-1], batch.x[:, 1:]).mean()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, betas=(self.beta1, self.beta2), fused=True)

    def schedule(self, optimizer: torch.optim.Optimizer, steps: int | None) -> Any:
        """Without a known number of steps the rate stays at its height after the warm-up."""
        warmup = self.warmup if steps is None else min(self.warmup, steps // 10)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            if steps is None:
                return 1.0
            done = min((step - warmup) / max(steps - warmup, 1), 1.0)
            return self.min_lr + (1 - self.min_lr) * (1 + math.cos(math.pi * done)) / 2

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": model(batch.x[:, :-1], batch.x[:, 1:]).mean(1)}

    def summarize(self, means: dict[str, Any]) -> dict[str, float]:
        """`loss` is in nats a token, over all of them; of all three less is better."""
        metrics = {"loss": means["loss"], "perplexity": math.exp(min(means["loss"], 700.0))}
        if self._tokenizer_file is None:
            metrics["bits_per_byte"] = means["loss"] / math.log(2)
        return metrics

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`loss` of each sequence in nats a token, and its `perplexity`."""
        loss = model(batch.x[:, :-1], batch.x[:, 1:]).mean(1)
        return {"loss": loss, "perplexity": loss.exp()}

    def flops_per_sample(self, schema: Schema) -> float:
        """Floating-point operations of one sequence's training step, forward and backward.

        6 a weight and token, and 12 · width · context a layer and token for attention (PaLM, arXiv:2204.02311,
        appendix B; what the causal mask spares is counted too, as is usual).
        """
        with torch.device("meta"):
            weights = sum(p.numel() for p in self.build(schema).parameters())
        return float(self.context * (6 * weights + 12 * self.layers * self.width * self.context))

    def tokenize(self, text: str) -> Sequence[int] | np.ndarray:
        if self._tokenizer_file is None:
            return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
        return np.array(self._encoder().encode(text, add_special_tokens=False).ids, dtype=np.int32)

    def tokenizer_key(self) -> str:
        if self._tokenizer_file is None:
            return "bytes"
        self._encoder()  # says so if the file isn't there
        return hashlib.sha256(self._tokenizer_file.read_bytes()).hexdigest()

    def save(self, folder: Path) -> None:
        if self._tokenizer_file is not None:
            shutil.copyfile(self._tokenizer_file, folder / "tokenizer.json")

    def load(self, folder: Path) -> None:
        if self.tokenizer is not None:
            self._tokenizer_file, self._loaded_tokenizer = folder / "tokenizer.json", None

    @torch.inference_mode()
    def generate(
        self,
        model: nn.Module,
        prompt: str,
        *,
        tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = 50,
        seed: int = 0,
        **options: Any,
    ) -> str:
        """The text that follows `prompt`: `tokens` more tokens, drawn from the `top_k` likeliest at each.

        temperature: flattens (above 1) or sharpens (below 1) the chances; at 0 the likeliest token is taken.
        What the model sees never exceeds `context` tokens: when they are full, it goes on from their second half.
        """
        if options:
            hint = did_you_mean(unknown := next(iter(options)), ("tokens", "temperature", "top_k", "seed"))
            raise UserError(f"{unknown}: a text is not continued with such an option; {hint}")
        training = model.training
        model.eval()
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        text = [int(t) for t in self.tokenize(prompt or "\n")]
        start, fresh = len(text), text[-self.context :]
        seen, caches = 0, self._caches()
        for _ in range(tokens):
            if seen + len(fresh) > self.context:
                fresh, seen, caches = text[-(self.context // 2) :], 0, self._caches()
            logits = model(torch.tensor([fresh], device=device), caches=caches)[0, -1]
            seen += len(fresh)
            fresh = [_draw(logits.float(), temperature, top_k, generator)]
            text += fresh
        model.train(training)
        return self._text(text[start:])

    def _caches(self) -> list[list[Tensor]]:
        return [[] for _ in range(self.layers)]

    def _text(self, tokens: list[int]) -> str:
        if self._tokenizer_file is None:
            return bytes(tokens).decode("utf-8", errors="replace")
        return str(self._encoder().decode(tokens))

    def _vocabulary(self) -> int:
        return BYTES if self._tokenizer_file is None else int(self._encoder().get_vocab_size())

    def _encoder(self) -> Any:
        if self._loaded_tokenizer is None:
            try:
                import tokenizers
            except ImportError:
                raise UserError(
                    f"algorithm.tokenizer needs the tokenizers package: {pip_install('tokenizers')}"
                ) from None
            file = self._tokenizer_file
            if file is None or not file.is_file():
                raise UserError(f"algorithm.tokenizer: there is no file {file}; give the path of a tokenizer.json")
            try:
                self._loaded_tokenizer = tokenizers.Tokenizer.from_file(str(file))
            except Exception as error:  # the package raises nothing narrower
                raise UserError(f"algorithm.tokenizer: {file} is not a tokenizer.json: {error}") from None
        return self._loaded_tokenizer


def _draw(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    if temperature <= 0:
        return int(logits.argmax())
    best, tokens = logits.topk(min(top_k or len(logits), len(logits)))
    return int(tokens[torch.multinomial((best / temperature).softmax(0), 1, generator=generator)])


@dataclass(frozen=True)
class Shape:
    """The sizes that a block is made of."""

    width: int
    heads: int
    kv_heads: int
    hidden: int
    dropout: float

    @property
    def head(self) -> int:
        return self.width // self.heads


class Transformer(nn.Module):
    """Tokens [n, t] to logits [n, t, vocabulary], or, given targets [n, t], to each one's loss [n, t].

    caches: a list for each block, empty at first, that keeps its keys and values: the call then goes on after the
    tokens of the calls before, one token at a time.
    """

    def __init__(self, vocabulary: int, layers: int, shape: Shape) -> None:
        super().__init__()
        self.head_width = shape.head
        self.embedding = nn.Embedding(vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(layers))
        self.norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.dropout = nn.Dropout(shape.dropout)
        self.initialize()

    def initialize(self) -> None:
        """Fresh weights: deviation 0.02, less where a block adds to the residual stream (GPT-2). Norms at 1.

        A model made on the meta device gets its weights here, after `to_empty`.
        """
        residual = 0.02 / math.sqrt(2 * len(self.blocks))
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=residual if name.endswith(("out.weight", "down.weight")) else 0.02)

    def forward(
        self, tokens: Tensor, targets: Tensor | None = None, caches: list[list[Tensor]] | None = None
    ) -> Tensor:
        before = caches[0][0].shape[2] if caches and caches[0] else 0
        rotation = rotary(before, tokens.shape[1], self.head_width, tokens.device)
        x = self.dropout(self.embedding(tokens))
        for i, block in enumerate(self.blocks):
            x = block(x, rotation, caches[i] if caches is not None else None)
        logits = F.linear(self.norm(x), self.embedding.weight)
        if targets is None:
            return logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


class Block(nn.Module):
    """Attention, then a gated layer, each on the normalised stream and added to it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        rows = shape.head * (shape.heads + 2 * shape.kv_heads)
        self.attention_norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.qkv = nn.Linear(shape.width, rows, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.gate_norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.up = nn.Linear(shape.width, 2 * shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], cache: list[Tensor] | None) -> Tensor:
        x = x + self.dropout(self.out(self._attend(self.qkv(self.attention_norm(x)), rotation, cache)))
        gate, up = self.up(self.gate_norm(x)).chunk(2, dim=-1)
        return x + self.dropout(self.down(F.silu(gate) * up))

    def _attend(self, qkv: Tensor, rotation: tuple[Tensor, Tensor], cache: list[Tensor] | None) -> Tensor:
        n, t, _ = qkv.shape
        shape = self.shape
        heads = qkv.view(n, t, -1, shape.head).transpose(1, 2)  # [n, heads + 2 kv_heads, t, head]
        turned = rotate(heads[:, : shape.heads + shape.kv_heads], *rotation)
        q, k = turned.split((shape.heads, shape.kv_heads), dim=1)
        v = heads[:, shape.heads + shape.kv_heads :]
        if cache is not None:
            if cache:
                k, v = torch.cat((cache[0], k), dim=2), torch.cat((cache[1], v), dim=2)
            cache[:] = (k, v)
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            dropout_p=shape.dropout if self.training else 0.0,
            is_causal=t == k.shape[2],  # a single new token sees all before it
            enable_gqa=shape.heads != shape.kv_heads,
        )
        return y.transpose(1, 2).reshape(n, t, shape.width)


def rotary(start: int, length: int, head: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, head / 2] of the angles of the positions from `start` on.

    Made anew in each pass: a few small operations, and no buffer that a meta device would leave empty.
    """
    rates = 10000.0 ** (-torch.arange(0, head, 2, device=device, dtype=torch.float32) / head)
    angles = torch.arange(start, start + length, device=device, dtype=torch.float32)[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the pairs (x[i], x[i + head/2]) of x [..., t, head] by their position's angles."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
