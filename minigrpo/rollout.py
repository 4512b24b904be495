"""Batched sampling with a KV cache: each prompt and its images are prefilled once, whatever the group size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from minigrpo.attention import PackedLayout
from minigrpo.decode import DecodeLayout, KVCache
from minigrpo.graphs import Graphs
from minigrpo.layout import EncodedPrompt, Group, pack
from minigrpo.models import VLM
from minigrpo.policy import decode_states, next_logits, run_decoder
from minigrpo.ranks import Ranks
from minigrpo.sampling import Sampling, counter_key, draw, greedy, nucleus, penalise, uniform
from minigrpo.standing import here
from minigrpo.task import Sample

MAX_ROWS = 512
"""Completions that are decoded together; more prompts than that allows are taken in turns."""
ROUND = 8
"""Live completions are rounded up to a multiple of this: a matrix product of a new shape has a price of its own."""
ENCODED = 64
"""Prompts that `answer` encodes at a time."""


@torch.no_grad()  # not inference_mode: its tensors would break autograd later
def generate(model: VLM, prompts: Sequence[EncodedPrompt], group_size: int | Sequence[int], sampling: Sampling, *,
             seed: int = 0, step: int = 0, begun: Sequence[Sequence[Tensor]] | None = None) -> list[Group]:
    """Samples completions of every prompt, from softmax(logits / temperature) over the ids that are not banned.

    What is drawn depends on the model, (seed, step), each prompt's id and the slot in its group: not on the other
    prompts, nor on how the work is split.

    Args:
        model: Full weights on one device; its own generation settings are never read.
        prompts: N prompts.
        group_size: Completions for each prompt, one number or one per prompt (0 is allowed).
        sampling: Length limit and temperature.
        seed, step: Key the random numbers.
        begun: What each completion goes on from, int64 [b >= 1] for every slot of every prompt: a question about a
            shared image, say (`VLM.encode_together`). It is prefilled, and not part of the completions returned.

    Returns:
        N groups; completions end with an end token unless the limit cut them off.
    """
    sizes = [group_size] * len(prompts) if isinstance(group_size, int) else list(group_size)
    if len(sizes) != len(prompts):
        raise ValueError(f"{len(sizes)} group sizes for {len(prompts)} prompts")
    if begun is not None and [len(texts) for texts in begun] != sizes:
        raise ValueError("begun needs one beginning for every completion of every prompt")
    was_training = model.net.training
    model.net.eval()  # gradient checkpointing is active in training mode only, and would drop the cache
    try:
        groups: list[Group] = []
        for part in _turns(sizes):
            groups += _generate([prompts[i] for i in part], [sizes[i] for i in part],
                                None if begun is None else [begun[i] for i in part], model, sampling, seed, step)
    finally:
        model.net.train(was_training)
    return groups


def _turns(sizes: list[int]) -> list[list[int]]:
    """Prompt indices, in order, in parts of at most MAX_ROWS completions."""
    parts: list[list[int]] = []
    rows = MAX_ROWS
    for i, size in enumerate(sizes):
        if not parts or rows + size > MAX_ROWS:
            parts.append([])
            rows = 0
        parts[-1].append(i)
        rows += size
    return parts


def _generate(prompts: list[EncodedPrompt], sizes: list[int], begun: list[Sequence[Tensor]] | None, model: VLM,
              sampling: Sampling, seed: int, step: int) -> list[Group]:
    decoding = Decoding(model, prompts, sizes, begun, sampling, seed, step)
    if sum(sizes):
        decoding.prefill(prompts, begun)
        for token in range(sampling.max_new_tokens):
            if not decoding.step(token):
                break
    return decoding.groups(prompts, sizes)


class Decoding:
    """The state of one batch: what was written for all completions, and which are live.

    Buffers [all completions, max_new_tokens] are written through `rows`, the indices of the live ones and of less than
    ROUND that have ended; everything else has one entry for each of these and shrinks as they finish.
    """

    def __init__(self, model: VLM, prompts: list[EncodedPrompt], sizes: list[int], begun: list[Sequence[Tensor]] | None,
                 sampling: Sampling, seed: int, step: int) -> None:
        self.model, self.sampling = model, sampling
        device, total = model.device, sum(sizes)
        keys = [counter_key(seed, step, p.id, slot) for p, n in zip(prompts, sizes, strict=True) for slot in range(n)]
        self.tokens = torch.zeros(total, sampling.max_new_tokens, dtype=torch.long, device=device)
        self.logps = torch.zeros(total, sampling.max_new_tokens, device=device)
        self.rows = torch.arange(total, device=device)
        self.ended = torch.zeros(total, dtype=torch.bool, device=device)
        self.uniforms: Tensor | None = None
        if sampling.temperature:
            self.uniforms = uniform(torch.tensor(keys, dtype=torch.long, device=device), sampling.max_new_tokens)
        self.prompt_of_row = torch.arange(len(prompts)).repeat_interleave(torch.tensor(sizes)).to(device)
        # the token that the next forward takes, and its place: a prompt's last, or the last of what was begun
        ahead = [b for texts in begun or () for b in texts]
        fed = [b[-1] for b in ahead] or [p.input_ids[-1] for p, n in zip(prompts, sizes, strict=True) for _ in range(n)]
        begins = torch.tensor([len(b) for b in ahead] or [0] * total, device=device)
        last = torch.stack([p.position_ids[:, -1] for p in prompts], dim=1).to(device)
        self.next_ids = torch.tensor(fed, dtype=torch.long, device=device)
        self.positions = last[:, self.prompt_of_row] + begins
        self.prompt_lengths = torch.tensor([len(p) - 1 for p in prompts], device=device)
        self.end_ids = torch.tensor(model.end_ids, device=device)
        # asking the device whether something finished stalls it, so a GPU is asked less often
        self.patience = 1 if device.type == "cpu" else 16
        self.begun = max(begins.tolist(), default=0)
        self.first = self.begun - begins
        self.drawn = torch.zeros(1, dtype=torch.long, device=device)
        self.graphs = Graphs() if model.graphs else None
        self.cache = KVCache(total, sampling.max_new_tokens, self.begun, fixed=model.graphs)
        self.seen: Tensor | None = None  # bool [live, V], the tokens of prompt and completion, where they are penalised
        if sampling.repetition_penalty != 1:
            self.seen = torch.zeros(total, model.vocabulary, dtype=torch.bool, device=device)
            for row, i in enumerate(self.prompt_of_row.tolist()):
                self.seen[row, prompts[i].input_ids.to(device)] = True
                self.seen[row, ahead[row].to(device) if ahead else []] = True

    def prefill(self, prompts: list[EncodedPrompt], begun: list[Sequence[Tensor]] | None) -> None:
        """Keys and values of every prompt and of what was begun, but for the last token, fed by the first step."""
        groups = [Group(p, list(texts)) for p, texts in zip(prompts, begun or [()] * len(prompts), strict=True)]
        packed = pack(groups).to(self.model.device)
        if packed.input_ids.numel():  # not where every prompt is one token, which the first step takes
            decode_states(self.model, packed, PackedLayout(packed, self.model.varlen, self.cache))
        self._compact(torch.arange(len(self.rows), device=self.model.device))

    @torch.inference_mode()  # a little faster than no_grad; what it makes ends with the rollout
    def step(self, token: int) -> bool:
        """Draws token number `token` of every live completion; False when none is left."""
        if self.graphs is None:
            self._advance()
        else:
            self.graphs.run(self._advance, (len(self.rows), self.cache.reach))
        self.cache.length += 1
        assert self.cache.length == self.begun + token + 1, "the cache must grow by one row a token"
        if (token + 1) % self.patience == 0:
            live = len(self.ended) - int(self.ended.sum())
            if live == 0:
                return False
            kept = math.ceil(live / ROUND) * ROUND
            if kept < len(self.rows):
                self._compact(self.ended.int().argsort(stable=True)[:kept].sort().values)
        return True

    def _advance(self) -> None:
        """One token more, with no look at a value. With a fixed cache, nothing in it depends on Python's state."""
        self.layout.begin(self.drawn)
        embeddings = self.model.net.get_input_embeddings()(self.next_ids[None])
        hidden = run_decoder(self.model, embeddings, self.positions[:, None], self.layout)
        temperature = self.sampling.temperature
        logits = next_logits(self.model, hidden[0], temperature or 1.0)
        if self.seen is not None:
            logits = penalise(logits, self.seen, self.sampling.repetition_penalty)
        if temperature and self.sampling.top_p < 1:
            logits = nucleus(logits, self.sampling.top_p)
        if self.uniforms is None:
            ids, logps = greedy(logits)
        else:
            ids, logps = draw(logits, self.uniforms.index_select(1, self.drawn)[:, 0])
        if self.seen is not None:
            self.seen.scatter_(1, ids[:, None], True)
        self.tokens[self.rows, self.drawn], self.logps[self.rows, self.drawn] = ids, logps.to(self.logps.dtype)
        self.ended |= (ids[:, None] == self.end_ids).any(-1)
        self.next_ids.copy_(ids)
        self.positions += 1
        self.drawn += 1

    def _compact(self, live: Tensor) -> None:
        """Keeps only these rows, and the prompts that still have one."""
        self.rows, self.ended, self.next_ids = self.rows[live], self.ended[live], self.next_ids[live]
        self.positions, self.first = self.positions[:, live], self.first[live]
        self.uniforms = None if self.uniforms is None else self.uniforms[live]
        self.seen = None if self.seen is None else self.seen[live]
        prompts, self.prompt_of_row = self.prompt_of_row[live].unique(return_inverse=True)
        self.prompt_lengths = self.prompt_lengths[prompts]
        self.cache.keep(live, prompts)
        self.layout = DecodeLayout(self.cache, self.prompt_of_row, self.prompt_lengths, self.first)

    def groups(self, prompts: list[EncodedPrompt], sizes: list[int]) -> list[Group]:
        """What was drawn, cut to length, on the CPU."""
        tokens, logps = self.tokens.cpu(), self.logps.cpu()
        if not logps.isfinite().all():
            raise ValueError("the model's log-probabilities are not finite: its weights are broken, or the run has "
                             "diverged; lower optim.lr")
        # a completion ends with its first end token: until the live ones were looked at, it may have gone on
        ends = torch.isin(tokens, self.end_ids.cpu())
        finished = ends.any(1).tolist()
        lengths = torch.where(ends.any(1), ends.int().argmax(1) + 1, tokens.shape[1]).tolist()
        groups, row = [], 0
        for prompt, size in zip(prompts, sizes, strict=True):
            own = range(row, row + size)
            groups.append(Group(
                prompt,
                completions=[tokens[i, : lengths[i]] for i in own],
                sampler_logps=[logps[i, : lengths[i]] for i in own],
                finished=[finished[i] for i in own],
            ))
            row += size
        return groups


def answer(model: VLM, samples: Sequence[Sample], sampling: Sampling, ranks: Ranks, max_prompt_tokens: int, *,
           seed: int = 0) -> list[str]:
    """One completion per sample as text, the work shared by all ranks, the same list on each."""
    own = ranks.share(samples)
    texts = []
    with here.at(phase="evaluation"):
        for start in range(0, len(own), ENCODED):  # so that not all images are in memory at once
            prompts = [model.encode(sample, max_prompt_tokens) for sample in own[start : start + ENCODED]]
            texts += [model.decode(g.completions[0]) for g in generate(model, prompts, 1, sampling, seed=seed)]
        return ranks.gather(texts)
