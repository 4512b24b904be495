"""Linear layers in oneDNN: the products, gradients, scores and rollouts of torch's own, to float32 rounding."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from running import ROOT
from torch import nn

from minigrpo import Policy, Sampling, cpu, generate, pack
from minigrpo.cpu import Linear, Patches, has_slow_products, use_fast_products, use_linear_patches
from minigrpo.loading import load_model

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")


def pair(inputs: int, outputs: int, bias: bool = True, dtype=torch.float32) -> tuple[nn.Linear, nn.Linear]:
    """A layer, and torch's own with the same weights in float64."""
    torch.manual_seed(inputs + outputs)
    fast = nn.Linear(inputs, outputs, bias, dtype=dtype)
    exact = nn.Linear(inputs, outputs, bias, dtype=torch.float64)
    exact.load_state_dict(fast.state_dict())
    use_fast_products(fast)
    assert type(fast) is Linear
    return fast, exact


def close(found: torch.Tensor, exact: torch.Tensor) -> bool:
    return bool((found - exact).abs().max() < 1e-6 * exact.abs().max())


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 5), (5, 8), (64, 64), (48, 300)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_and_gradients(shape, inputs, outputs, bias):
    fast, exact = pair(inputs, outputs, bias)
    x = torch.randn(*shape, inputs, requires_grad=True)
    twin = x.detach().double().requires_grad_()
    weights = torch.randn(*shape, outputs)
    for layer, given in ((fast, x), (exact, twin)):
        (layer(given) * weights).sum().backward()
    assert close(fast(x), exact(twin)) and fast(x).shape == exact(twin).shape
    assert close(x.grad, twin.grad)
    for ours, theirs in zip(fast.parameters(), exact.parameters(), strict=True):
        assert ours.grad.shape == ours.shape and ours.grad.is_contiguous() and close(ours.grad, theirs.grad)
    with torch.no_grad():
        assert torch.equal(fast(x), fast(x.detach()))


@pytest.mark.parametrize("use", [use_linear_patches, use_fast_products])
def test_patch_embeddings_are_convolutions_of_single_patches(use):
    torch.manual_seed(0)
    fast, exact = (nn.Conv3d(3, 20, (2, 4, 4), (2, 4, 4), bias=False) for _ in range(2))
    exact.load_state_dict(fast.state_dict())
    exact.double()
    use(fast)
    assert type(fast) is Patches
    x = torch.randn(7, 3, 2, 4, 4)
    weights = torch.randn(7, 20, 1, 1, 1)
    for layer, given in ((fast, x), (exact, x.double())):
        (layer(given) * weights).sum().backward()
    assert fast(x).shape == exact(x.double()).shape and close(fast(x), exact(x.double()))
    assert fast.weight.grad.shape == fast.weight.shape and close(fast.weight.grad, exact.weight.grad)
    larger = torch.randn(2, 3, 2, 8, 12)
    assert close(fast(larger), exact(larger.double()))
    for other in (nn.Conv3d(4, 20, (2, 4, 4), groups=2), nn.Conv3d(3, 20, (2, 4, 4), padding=1)):
        use(other)
        assert type(other) is nn.Conv3d, "not a linear layer of its input"


def test_only_what_is_asked_for_gets_a_gradient():
    fast, exact = pair(6, 4)
    fast.weight.requires_grad_(False)
    x = torch.randn(3, 6, requires_grad=True)
    fast(x).sum().backward()
    assert fast.weight.grad is None and torch.allclose(x.grad, exact.weight.sum(0).float().expand(3, -1))
    fast, _ = pair(6, 4)
    fast(x.detach()).sum().backward()
    assert torch.allclose(fast.weight.grad, x.detach().sum(0).expand(4, -1))


def test_views_that_are_not_contiguous():
    fast, exact = pair(6, 4)
    x = torch.randn(6, 5).t()
    assert close(fast(x), exact(x.double()))
    fast(x).backward(torch.ones(5, 1).expand(5, 4))
    assert torch.allclose(fast.weight.grad, x.sum(0).expand(4, -1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_torch_s_own(dtype, monkeypatch):
    fast, _ = pair(6, 4, dtype=dtype)
    monkeypatch.setattr(cpu, "product", None)
    assert fast(torch.randn(3, 6, dtype=dtype)).dtype is dtype


def test_no_rows_and_autocast_are_torch_s_own(monkeypatch):
    fast, _ = pair(6, 4)
    monkeypatch.setattr(cpu, "product", None)
    assert fast(torch.randn(0, 6)).shape == (0, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast(torch.randn(3, 6)).dtype is torch.bfloat16


@pytest.fixture(params=tiny.FAMILIES)
def twins(request):
    """A float32 model with torch's own products, and one with oneDNN's."""
    plain, fast = (tiny.vlm(request.param, torch.float32) for _ in range(2))
    use_fast_products(fast.net)
    assert not any(type(module) is nn.Linear for module in fast.net.modules())
    assert list(fast.net.state_dict()) == list(plain.net.state_dict())
    return plain, fast


@pytest.mark.parametrize("checkpointing", [False, True])
def test_scores_and_gradients_of_a_model(twins, checkpointing):
    logps = []
    for vlm in twins:
        if checkpointing:
            vlm.net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        out = Policy(vlm).train()(pack(tiny.groups(vlm)))
        (out.logps * torch.linspace(-1.0, 1.5, len(out.logps))).sum().backward()
        logps.append(out.logps.detach())
    assert (logps[0] - logps[1]).abs().max() < 1e-5  # log-probabilities of about 10
    for (name, plain), fast in zip(twins[0].net.named_parameters(), twins[1].net.parameters(), strict=True):
        assert (plain.grad - fast.grad).abs().max() <= 2e-5 * plain.grad.abs().max(), name


def test_rollouts_of_a_model(twins):
    drawn = [generate(vlm, [vlm.encode(s) for s in tiny.samples(vlm.has_vision)], 3, Sampling(6)) for vlm in twins]
    for plain, fast in zip(*drawn, strict=True):
        for a, b in zip(plain.completions, fast.completions, strict=True):
            assert torch.equal(a, b)
        for a, b in zip(plain.sampler_logps, fast.sampler_logps, strict=True):
            assert (a - b).abs().max() < 1e-5


@pytest.mark.parametrize(("vendor", "width", "slow"), [
    ("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX2", False), ("GenuineIntel", "AVX512", False),
    (None, "AVX512", False),
])
def test_a_loaded_model_has_them_where_torch_s_own_are_slow(vendor, width, slow, monkeypatch, tmp_path):
    if not torch.backends.mkl.is_available():
        pytest.skip("this torch was built without MKL")
    if vendor:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nvendor_id : {vendor}\n", encoding="utf-8")
    monkeypatch.setattr(cpu, "CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: width)
    assert has_slow_products() is slow
    tiny.vlm("qwen2_5_vl", torch.float32).save(tmp_path / "model")
    net = load_model(tmp_path / "model").net
    assert type(net.lm_head) is (Linear if slow else nn.Linear) and type(net.model.visual.patch_embed.proj) is Patches


SHAPES = """
import torch
from torch import nn
from minigrpo.cpu import use_fast_products
layer = nn.Linear(192, 192)
use_fast_products(layer)
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
def run(rows):
    for n in rows:
        layer(torch.ones(n, 192)).sum().backward()
run(range(1, 301))
before = resident()
run(range(301, 601))
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_shapes_that_were_met_are_not_all_remembered():
    """Each took a third of a megabyte, between the activations, whose memory then could not be used again."""

    def kilobytes(**user) -> int:
        env = {k: v for k, v in os.environ.items() if k not in cpu.KEPT}
        command = [sys.executable, "-c", SHAPES]
        return int(subprocess.run(command, env=env | user, check=True, stdout=subprocess.PIPE).stdout)

    ours, remembered = kilobytes(), kilobytes(**dict.fromkeys(cpu.KEPT, "100000"))
    assert remembered > 50_000, "what the user set is kept"
    assert ours < remembered / 4


FAULTS = """
import resource, sys, torch
import minigrpo.loading
from minigrpo.cpu import keep_freed_memory
if sys.argv[1] == "start":
    keep_freed_memory()
def use():
    return float(torch.empty(16 * 2**20).fill_(1)[0])
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
use()
first = faults() - before
for _ in range(20):
    use()
print(first, faults() - before - first)
"""


def faults(how: str, **environment: str) -> list[int]:
    """Pages that a tensor of 64 MiB takes when a process first makes one, and in 20 more times."""
    done = subprocess.run([sys.executable, "-c", FAULTS, how], cwd=ROOT, capture_output=True, text=True, check=True,
                          env=os.environ | environment)
    return [int(n) for n in done.stdout.split()]


def test_large_tensors_do_not_come_as_new_pages_each_time():
    pytest.importorskip("resource")
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc is told to keep freed memory")
    plain, kept = (faults(how, THP_MEM_ALLOC_ENABLE="0")[1] for how in ("plain", "start"))
    assert kept * 5 < plain, (kept, plain)


def test_large_tensors_lie_in_large_pages_unless_the_user_says_no(monkeypatch):
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not pages.exists() or "[madvise]" not in pages.read_text():
        pytest.skip("this system has no large pages to ask for, or gives them unasked")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    small, large = faults("start", THP_MEM_ALLOC_ENABLE="0")[0], faults("start")[0]
    assert large * 5 < small, (large, small)
