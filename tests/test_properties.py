"""Properties of the engine on random input: layout, advantages, priors, losses, rewards, configuration."""

import math

import pytest
import torch
from hypothesis import strategies as st
from properties import holds, one_line

from minigrpo import Completion, EncodedPrompt, Group, Sample, Task, group_advantages, insert_prior, micro_batches, pack
from minigrpo.attention import PackedLayout
from minigrpo.config import ConfigError, parse_config, to_toml
from minigrpo.layout import PRIOR
from minigrpo.losses import SHAPE, completion_weights, kl_k3, policy_loss, sft_loss
from minigrpo.reward import weigh

TASK = "minigrpo.task:Task"
tokens = st.lists(st.integers(0, 9), min_size=1, max_size=5)
shapes = st.lists(st.tuples(tokens, st.lists(tokens, max_size=4), st.sampled_from((1, 3))), min_size=1, max_size=4)
number = st.floats(-1e6, 1e6)
rewards_of = st.lists(st.one_of(number, st.sampled_from((0.0, 1.0))), min_size=2, max_size=9)
logp = st.floats(-9.0, 0.0)


def groups_of(drawn) -> list[Group]:
    """A group of each (prompt, completions, _), with a prompt's positions on as many axes as the first has."""
    axes = drawn[0][2]
    return [Group(EncodedPrompt(str(i), torch.tensor(ids), torch.arange(3 * i, 3 * i + len(ids)).expand(axes, -1)),
                  [torch.tensor(c) for c in completions]) for i, (ids, completions, _) in enumerate(drawn)]


def plainly(drawn) -> tuple[list, list, list, list, list]:
    """Tokens, positions, what each row sees, rows with a target, and (owner, target), of a layout written out."""
    ids, positions, seen, rows, targets, owner = [], [], [], [], [], 0
    for i, (prompt, completions, _) in enumerate(drawn):
        start = len(ids)
        shared = list(range(start, start + len(prompt) - 1))
        ids, positions = ids + prompt[:-1], positions + [3 * i + n for n in range(len(prompt) - 1)]
        seen += [shared[: n + 1] for n in range(len(shared))]
        for completion in completions:
            for n, target in enumerate(completion):
                rows.append(len(ids))
                seen.append(shared + [len(ids) - k for k in range(n, -1, -1)])
                ids.append(prompt[-1] if n == 0 else completion[n - 1])
                positions.append(3 * i + len(prompt) - 1 + n)
                targets.append((owner, target))
            owner += 1
    return ids, positions, seen, rows, targets


@holds(300, drawn=shapes)
def test_pack_is_the_layout_written_out_token_by_token(drawn):
    packed = pack(groups_of(drawn))
    ids, positions, _, rows, targets = plainly(drawn)
    assert packed.input_ids.tolist() == [ids] and packed.rows.tolist() == rows
    assert packed.position_ids.tolist() == [[positions]] * drawn[0][2]
    assert list(zip(packed.owner.tolist(), packed.targets.tolist(), strict=True)) == targets
    assert packed.lengths.tolist() == [len(c) for _, completions, _ in drawn for c in completions]


@holds(100, drawn=shapes)
def test_a_row_attends_to_its_own_prompt_and_to_what_stands_before_it_in_its_completion(drawn):
    packed, seen = pack(groups_of(drawn)), plainly(drawn)[2]
    size = len(seen)
    if size:
        silent, each = torch.zeros(1, 1, size, size), torch.eye(size)[None, None]  # all keys alike, every value its row
        out = PackedLayout(packed).attend(0, silent, silent, each, None)[0, :, 0]
        assert [row.nonzero()[:, 0].tolist() for row in out] == seen
        assert torch.allclose(out.sum(1), torch.ones(size), atol=1e-5)


@holds(200, drawn=shapes, budget=st.integers(1, 30))
def test_micro_batches_hold_every_completion_once_behind_its_prompt_within_the_budget(drawn, budget):
    batches = micro_batches(groups_of(drawn), budget)
    found = []
    for batch in batches:
        apart = [] if batch.prompt is None else batch.prompt.input_ids[0].tolist()
        found += [(apart or batch.input_ids[0, span.start : span.prompt_end].tolist(), length)
                  for span in batch.spans for length in span.lengths]
    assert found == [(ids[:-1], len(c)) for ids, completions, _ in drawn for c in completions]
    assert [t for batch in batches for t in batch.targets.tolist()] == [t for _, cs, _ in drawn for c in cs for t in c]
    for batch in batches:
        apart = 0 if batch.prompt is None else batch.prompt.input_ids.shape[1]
        assert apart + batch.input_ids.shape[1] <= budget or len(batch.lengths) <= 1, "only one may be too long"


@holds(300, drawn=shapes, data=st.data())
def test_select_takes_what_belongs_to_the_slots(drawn, data):
    group = groups_of(drawn)[0]
    size = len(group.completions)
    slots = data.draw(st.lists(st.integers(0, size - 1), unique=True) if size else st.just([]))
    marked = Group(group.prompt, group.completions, finished=[i % 2 == 0 for i in range(size)],
                   sources=[str(i) for i in range(size)], rewards=torch.arange(float(size)))
    chosen = marked.select(slots)
    assert [c.tolist() for c in chosen.completions] == [group.completions[i].tolist() for i in slots]
    assert chosen.rewards.tolist() == slots and chosen.sources == [str(i) for i in slots]


@holds(600, rewards=rewards_of, scale=st.sampled_from(("std", "none", "loo")), unbiased=st.booleans())
def test_advantages_are_the_formula_in_float64(rewards, scale, unbiased):
    found = group_advantages(torch.tensor(rewards, dtype=torch.float64), scale, unbiased).tolist()
    size, mean = len(rewards), math.fsum(rewards) / len(rewards)
    if max(rewards) == min(rewards):
        assert found == [0.0] * size
        return
    deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / (size - unbiased)) + 1e-4
    divisor = {"std": deviation, "none": 1.0, "loo": (size - 1) / size}[scale]
    close = 1e-9 * max(map(abs, rewards)) / divisor + 1e-12
    assert found == pytest.approx([(r - mean) / divisor for r in rewards], abs=close, rel=1e-9)
    assert abs(math.fsum(found)) <= size * close


@holds(400, rewards=rewards_of, order=st.randoms(use_true_random=False), scale=st.sampled_from(("std", "none", "loo")))
def test_advantages_follow_a_permutation_and_keep_ties_and_order(rewards, order, scale):
    slots = list(range(len(rewards)))
    order.shuffle(slots)
    rewards = torch.tensor(rewards, dtype=torch.float64)
    found, shuffled = group_advantages(rewards, scale), group_advantages(rewards[slots], scale)
    assert torch.allclose(found[slots], shuffled, rtol=1e-9, atol=1e-9 * float(rewards.abs().max() * 1e4))
    assert (found[rewards.argsort()].diff() >= 0).all()
    assert all((found[rewards == value] == found[rewards == value][0]).all() for value in rewards.unique())


@holds(400, rewards=rewards_of, times=st.floats(0.1, 10), plus=st.floats(-10, 10))
def test_without_eps_advantages_by_std_do_not_change_with_scale_or_offset_of_the_rewards(rewards, times, plus):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    spread = float(rewards.max() - rewards.min())
    if spread > 1e-3 * (1 + float(rewards.abs().max())):
        found = group_advantages(rewards, eps=0.0)
        assert torch.allclose(found, group_advantages(rewards * times + plus, eps=0.0), atol=1e-6)
        assert float(found.std()) == pytest.approx(1, abs=1e-9)


@holds(200, rewards=st.lists(st.floats(), min_size=1, max_size=4), scale=st.sampled_from(("std", "none", "loo", "x")))
def test_rewards_of_any_kind_give_finite_advantages_or_a_value_error(rewards, scale):
    try:
        found = group_advantages(torch.tensor(rewards, dtype=torch.float64), scale)
    except ValueError as error:
        one_line(error)
    else:
        assert found.isfinite().all() or max(map(abs, rewards)) > 1e150, "squares of such rewards overflow"


@holds(400, size=st.integers(0, 5), group_size=st.integers(0, 5), priors=st.lists(st.integers(0, 3), max_size=4))
def test_priors_take_the_last_slots_and_never_change_the_groups_size(size, group_size, priors):
    prompt = EncodedPrompt("p", torch.tensor([1, 2]), torch.arange(2)[None])
    group = Group(prompt, [torch.tensor([i, 9]) for i in range(size)], [torch.zeros(2)] * size)
    texts = [torch.full((n,), 7) for n in priors]
    kept = group_size - len(priors)
    fits = kept >= 0 and size in (group_size, kept) and 0 not in priors
    if not fits:
        with pytest.raises(ValueError, match="^p: "):
            insert_prior(group, texts, group_size)
        return
    found = insert_prior(group, texts, group_size)
    assert [c.tolist() for c in found.completions] == [[i, 9] for i in range(kept)] + [t.tolist() for t in texts]
    assert found.is_prior == [False] * kept + [True] * len(priors)
    packed = pack([found]) if found.completions else None
    if packed and packed.sampler_logps is not None:
        assert packed.sampler_logps.isnan().tolist() == [source == PRIOR for source, c in
                                                         zip(found.sources, found.completions, strict=True) for _ in c]


@holds(500, rows=st.lists(st.tuples(logp, logp, logp, st.floats(-5, 5), st.floats(0, 1), st.booleans()), min_size=1,
                          max_size=6),
       kind=st.sampled_from(("grpo", "reinforce", "shaped")), kl=st.sampled_from(("k3", "k3_corrected")),
       beta=st.sampled_from((0.0, 0.04, 1.0)), low=st.floats(0, 1), high=st.floats(0, 2))
def test_the_policy_loss_and_its_gradient_are_those_of_the_formula(rows, kind, kl, beta, low, high):
    now, old, ref, advantage, weight, marked = (list(column) for column in zip(*rows, strict=True))
    logps = torch.tensor(now, dtype=torch.float64, requires_grad=True)
    others = [torch.tensor(column, dtype=torch.float64) for column in (old, advantage, weight, ref)]
    shaped = torch.tensor(marked) if kind == "shaped" else None
    found = policy_loss(logps, *others[:3], objective="reinforce" if kind == "reinforce" else "grpo",
                        ref_logps=others[3], beta=beta, kl=kl, clip_low=low, clip_high=high, shaped=shaped)
    total = 0.0
    for p, q, r, a, w, mark in rows:
        ratio = math.exp(p - q)
        if kind == "reinforce":
            gain = a * p
        elif kind == "shaped" and mark:
            gain = a * math.exp(p) / (math.exp(p) + SHAPE)
        else:
            gain = min(ratio * a, min(max(ratio, 1 - low), 1 + high) * a)
        distance = math.exp(r - p) - (r - p) - 1
        total += w * (beta * distance * (ratio if kl == "k3_corrected" else 1) - gain)
    assert found.loss.item() == pytest.approx(total, rel=1e-9, abs=1e-9)
    found.loss.backward()
    assert logps.grad.isfinite().all() and found.kl.min() >= -1e-12


@holds(200, p=st.lists(st.tuples(st.floats(-1e4, 0), st.floats(-1e4, 0)), min_size=1, max_size=4))
def test_the_kl_estimate_is_never_negative_nor_infinite(p):
    now, ref = (torch.tensor(column, dtype=torch.float64) for column in zip(*p, strict=True))
    assert (kl_k3(now, ref) >= -1e-9).all() and kl_k3(now, ref).isfinite().all() and (kl_k3(now, now) == 0).all()


@holds(400, lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=4),
       normalize=st.sampled_from(("token", "sequence", "constant", "group")), cut=st.integers(0, 4))
def test_weights_of_parts_add_up_to_the_mean_that_normalize_names(lengths, normalize, cut):
    flat = [n for group in lengths for n in group]
    totals = (sum(flat), len(flat), len(lengths), 9)
    parts = [completion_weights(torch.tensor(part, dtype=torch.long), normalize, *totals)
             for part in (flat[:cut], flat[cut:])]
    wanted = {"token": [1 / sum(flat)] * len(flat), "sequence": [1 / (n * len(flat)) for n in flat],
              "constant": [1 / (9 * len(flat))] * len(flat), "group": [1 / len(lengths)] * len(flat)}[normalize]
    assert torch.cat(parts).tolist() == pytest.approx(wanted, rel=1e-12)


@holds(200, rows=st.lists(st.tuples(logp, st.floats(0, 1)), min_size=1, max_size=6))
def test_the_sft_loss_is_a_weighted_sum_or_a_mean(rows):
    logps, weights = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    assert sft_loss(logps).item() == pytest.approx(-sum(p for p, _ in rows) / len(rows))
    assert sft_loss(logps, weights).item() == pytest.approx(-sum(p * w for p, w in rows))


scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=2),
                   st.builds(object), st.just(10**400), st.just(1j), st.builds(lambda x: torch.tensor(x), st.floats()),
                   st.builds(lambda: torch.ones(2)), st.lists(st.floats(), max_size=2))
answers = st.one_of(scalar, st.dictionaries(st.one_of(st.text(max_size=2), st.integers(), st.none()),
                                            st.one_of(scalar, st.lists(scalar, max_size=3), st.tuples(scalar, scalar)),
                                            max_size=3))


@holds(500, said=answers, weights=st.dictionaries(st.text(max_size=1), st.floats(-2, 2), max_size=1))
def test_whatever_a_reward_returns_is_weighed_or_refused_in_one_line(said, weights):
    task = Task(None)
    task.reward_weights = weights
    completions = [Completion("one\nline"), Completion("two")]
    try:
        rewards, terms = weigh(task, Sample("the sample", "q"), completions, said)
    except ValueError as error:
        assert "the sample" in one_line(error)
    else:
        assert rewards.dtype == torch.float64 and rewards.isfinite().all() and len(rewards) == 2
        for i in range(2):
            parts = [weights.get(name, 1.0) * values[i] for name, values in terms.items() if values[i] is not None]
            assert rewards[i].item() == pytest.approx(math.fsum(p for p in parts if not math.isnan(p)), rel=1e-9)


names = st.sampled_from(("--run.seed", "--grpo.beta", "--run.steps", "--model.path", "--model.dtype", "--model.graphs",
                         "--strategy", "--optim.lr", "--rollout.group_size", "--run.", "--", "-", "--grpo"))
word = st.one_of(names, st.text(max_size=6), st.integers().map(str), st.floats().map(str), st.just("true"),
                 st.builds(lambda n, v: f"{n}={v}", names, st.text(max_size=5)))


@holds(150, argv=st.lists(word.filter(lambda text: text not in ("-h", "--help")), max_size=6))
def test_any_command_line_is_a_configuration_or_one_line(argv):
    try:
        config, _ = parse_config(argv, TASK)
    except ConfigError as error:
        one_line(error)
    except SystemExit as stopped:
        assert stopped.code == 0, "only --help ends it"
    else:
        assert config.task_class == TASK


value = st.recursive(st.one_of(st.integers(), st.booleans(), st.text(max_size=5), st.floats()),
                     lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", min_size=1), inner))
line = st.one_of(st.text(max_size=12), st.sampled_from(("[run]", "[grpo]", "[task]", "[runs]", "[[run]]", "class = 1")),
                 st.builds(lambda n, v: f"{n} = {v!r}".replace("True", "true"),
                           st.sampled_from(("steps", "beta", "seed", "dir", "x")), value))


@holds(150, lines=st.lists(line, max_size=6))
def test_any_file_is_a_configuration_or_one_line_that_names_it(tmp_path_factory, lines):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    try:
        config, _ = parse_config(["--config", str(file)], TASK)
    except ConfigError as error:
        one_line(error)
    else:
        file.write_text(to_toml(config), encoding="utf-8")
        assert parse_config(["--config", str(file)], TASK)[0] == config
