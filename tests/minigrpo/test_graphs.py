"""Decode steps out of graphs: the same completions, from operations that can be replayed.

Where there is no GPU, a stand-in records a step's operations and makes them again on the same memory, as a CUDA graph
does: whatever Python would have done differently in a later step, a replay does not do.
"""

import contextlib

import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minigrpo import Sampling, decode, generate, rollout
from minigrpo.graphs import Graphs, check_graphs, cuda_graph
from minigrpo.rollout import Decoding

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
SAMPLINGS = [Sampling(24, 0.0, repetition_penalty=1.3), Sampling(24, 1.3), Sampling(24, 1.5, top_p=0.9)]


class Recorded(TorchDispatchMode):
    """A step's operations. To record runs them, so that the first replay has nothing left to do."""

    made = 0

    def __init__(self, step, former=None):
        super().__init__()
        type(self).made += 1
        self.calls, self.replays = [], 0
        with self:
            step()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        self.replays += 1
        if self.replays == 1:
            return
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for new, old in zip(*(x if isinstance(x, (tuple, list)) else [x] for x in (again, out)), strict=True):
                if new.data_ptr() != old.data_ptr():  # no view, and not in place
                    old.copy_(new)


class Devices(TorchDispatchMode):
    """The devices of all tensors that operations take and give."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        self.devices |= {x.device.type for x in tensors}
        return out


@pytest.fixture
def recorded(monkeypatch):
    """Graphs are recordings, and blocks so short that a completion goes through several."""
    monkeypatch.setattr(Recorded, "made", 0)
    monkeypatch.setattr(rollout, "Graphs", lambda: Graphs(Recorded))
    monkeypatch.setattr(decode, "BLOCK", 6)
    return Recorded


def pieces(vlm, begun: bool):
    """Prompts, group sizes, and what completions go on from."""
    if not begun:
        return [vlm.encode(s) for s in tiny.samples(vlm.has_vision)], [7, 1, 12], None
    shared, rests = vlm.encode_together(tiny.questions([tiny.image(84, 56, 1)] if vlm.has_vision else []))
    lone, rest = vlm.encode_together(tiny.questions()[2:3])
    return [shared, lone], [4, 1], [rests, rest]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_replayed_steps_draw_what_steps_one_by_one_draw(family, sampling, begun, recorded):
    vlm, steps = tiny.rolling(family, end_ids={*range(8), 258}), []
    prompts, sizes, beginnings = pieces(vlm, begun)
    expected = generate(vlm, prompts, sizes, sampling, seed=1, begun=beginnings)
    vlm.graphs = True
    vlm.decoder.register_forward_pre_hook(lambda module, args: steps.append(1))
    groups = generate(vlm, prompts, sizes, sampling, seed=1, begun=beginnings)
    assert tiny.token_lists(groups) == tiny.token_lists(expected)
    a, b = (torch.cat([p for g in made for p in g.sampler_logps]) for made in (groups, expected))
    assert torch.allclose(a, b, rtol=0, atol=1e-6)  # they are logged in float32
    lengths = [len(c) for g in groups for c in g.completions]
    assert min(lengths) < max(lengths) or not sampling.temperature, "nothing ended early"
    assert recorded.made >= 2, "one graph was enough"
    assert len(steps) - 1 < max(lengths), "Python went through the model in every step"


def test_a_recording_knows_nothing_of_pythons_state():
    total, seen = torch.zeros(1), iter(range(10))
    graphs = Graphs(Recorded)
    for _ in range(4):
        graphs.run(lambda: total.add_(next(seen)), (1,))
    assert total == 0 + 1 + 1 + 1


def test_a_step_is_captured_once_it_has_been_made_in_its_shapes():
    made = []

    class Noted:
        def __init__(self, step, former):
            made.append(("captured", former))
            self.name = len(made)

        def replay(self):
            made.append(("replayed", self.name))

    graphs = Graphs(Noted)
    for shapes in ((8, 6), (8, 6), (8, 6), (8, 12), (4, 12), (4, 12)):
        graphs.run(lambda shapes=shapes: made.append(shapes), shapes)
    first = made[1][1]
    assert first is None and made[5:7] == [(4, 12), made[6]], "a step that comes once is not captured"
    former = made[6][1]
    assert isinstance(former, Noted), "who captures must know the former graph, to end it"
    assert made == [(8, 6), ("captured", None), ("replayed", 2), ("replayed", 2), (8, 12), (4, 12),
                    ("captured", former), ("replayed", 7)]


def test_a_former_graph_ends_before_the_next_capture_and_not_while_it_runs(monkeypatch):
    done = []

    class Graph:
        def reset(self):
            done.append("reset")

    @contextlib.contextmanager
    def capturing(graph, **options):
        done.append(("begin", graph, options))
        yield
        done.append("end")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("synchronize"))
    first = cuda_graph(lambda: done.append("step"), None)
    begin = ("begin", first, {"capture_error_mode": "thread_local"})
    assert done == [begin, "step", "end"]
    done.clear()
    second = cuda_graph(lambda: done.append("step"), first)
    assert second is not first
    assert done == ["synchronize", "reset", ("begin", second, begin[2]), "step", "end"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_step_looks_at_no_value_and_stays_on_its_device(family, dtype):
    vlm = tiny.rolling(family, dtype=dtype)
    vlm.graphs = True
    prompts, sizes, begun = pieces(vlm, True)
    decoding = Decoding(vlm, prompts, sizes, begun, Sampling(5, 1.0, top_p=0.9, repetition_penalty=1.2), 0, 0)
    with torch.no_grad():
        decoding.prefill(prompts, begun)
        decoding._advance()
        vlm.net.to("meta")  # tensors without values, which mix with no others
        vlm.banned_ids = vlm.banned_ids.to("meta")
        for part in (decoding, decoding.cache, decoding.layout):
            for name, value in vars(part).items():
                if isinstance(value, torch.Tensor):
                    setattr(part, name, value.to("meta"))
                elif name in ("own", "prompts") and isinstance(value, dict):
                    setattr(part, name, {layer: (k.to("meta"), v.to("meta")) for layer, (k, v) in value.items()})
        with Devices() as met:
            decoding._advance()
    assert met.devices == {"meta"}


def test_what_cannot_be_captured_is_refused():
    with pytest.raises(ValueError, match="graphs run on CUDA only, not on cpu: leave out model.graphs"):
        tiny.VLM(tiny.net("llama"), tiny.tokenizer(), graphs=True)
    check_graphs(torch.device("cuda"))


@NO_GPU
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graphs_on_a_gpu_draw_what_the_same_steps_draw_one_by_one(dtype, monkeypatch):
    class OneByOne(Graphs):
        def run(self, step, shapes):
            step()

    vlm = tiny.rolling(dtype=dtype)
    vlm.net.to("cuda")
    vlm.banned_ids, vlm.graphs = vlm.banned_ids.to("cuda"), True
    prompts, sizes, _ = pieces(vlm, False)
    replayed = generate(vlm, prompts, sizes, Sampling(40, 1.3), seed=1)
    monkeypatch.setattr(rollout, "Graphs", OneByOne)
    assert tiny.token_lists(generate(vlm, prompts, sizes, Sampling(40, 1.3), seed=1)) == tiny.token_lists(replayed)
