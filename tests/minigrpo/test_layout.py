"""pack, micro_batches, Group.select: by hand on small examples, and as properties on random ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrpo import EncodedPrompt, Group, micro_batches, pack
from minigrpo.layout import Span, continued_positions


def prompt(ids, id="p", axes=1, **images):
    return EncodedPrompt(id, torch.tensor(ids), torch.arange(len(ids)).expand(axes, -1), **images)


def group(ids, completions, **fields):
    return Group(prompt(ids), [torch.tensor(c) for c in completions], **fields)


def test_pack_by_hand():
    packed = pack([group([1, 2, 3], [[10, 11], [20]]), group([4, 5], [[30, 31, 32]], sources=["prior"])])
    #                        prompt | c₁₁    c₁₂ | prompt | c₂₁: each opens with its prompt's last token
    assert packed.input_ids.tolist() == [[1, 2, 3, 10, 3, 4, 5, 30, 31]]
    assert packed.position_ids.tolist() == [[[0, 1, 2, 3, 2, 0, 1, 2, 3]]]
    assert packed.spans == (Span(0, 2, (2, 1)), Span(5, 6, (3,)))
    assert [span.end for span in packed.spans] == [5, 9]
    assert packed.rows.tolist() == [2, 3, 4, 6, 7, 8]
    assert packed.targets.tolist() == [10, 11, 20, 30, 31, 32]
    assert packed.lengths.tolist() == [2, 1, 3]
    assert packed.owner.tolist() == [0, 0, 1, 2, 2, 2]
    assert packed.is_prior.tolist() == [False, False, True]
    assert packed.advantages is None and packed.pixel_values is None and packed.image_positions is None
    assert packed.per_completion(torch.tensor([1.0, 2, 4, 8, 16, 32])).tolist() == [3, 4, 56]


def test_per_completion_carries_gradients():
    packed = pack([group([1, 2], [[3, 4], [5]])])
    values = torch.ones(3, requires_grad=True)
    (packed.per_completion(values) * torch.tensor([2.0, 5.0])).sum().backward()
    assert values.grad.tolist() == [2, 2, 5]


def test_completions_continue_all_three_axes_from_the_prompts_last_position():
    p = EncodedPrompt("p", torch.tensor([1, 2, 3]), torch.tensor([[0, 1, 7], [0, 1, 7], [0, 2, 7]]))
    assert continued_positions(p, 3).tolist() == [[7, 8, 9]] * 3
    packed = pack([Group(p, [torch.tensor([8, 9, 10]), torch.tensor([8])])])
    assert packed.position_ids[:, 0].tolist() == [[0, 1, 7, 8, 9, 7], [0, 1, 7, 8, 9, 7], [0, 2, 7, 8, 9, 7]]


def test_images_stand_once_in_order_and_their_positions_move_with_their_prompt():
    def seen(ids, first, count):
        return prompt(ids, pixel_values=torch.full((4 * count, 2), float(first)), axes=3,
                      image_grid_thw=torch.tensor([[1, 2, 2]] * count), image_positions=torch.arange(1, 1 + count))

    groups = [
        Group(seen([1, 99, 2], 1, 1), [torch.tensor([5, 6])] * 3),
        Group(prompt([1, 2], axes=3), [torch.tensor([5])]),
        Group(seen([1, 99, 99, 2], 2, 2), [torch.tensor([5])] * 2),
    ]
    packed = pack(groups)
    assert packed.pixel_values[:, 0].tolist() == [1] * 4 + [2] * 8
    assert packed.image_grid_thw.shape == (3, 3)
    assert packed.image_positions.tolist() == [1, 11, 12]
    assert packed.input_ids[0, packed.image_positions].tolist() == [99, 99, 99]


def test_a_group_without_completions_contributes_its_prompt_only():
    packed = pack([group([1, 2, 3], []), group([4, 5], [[6]])])
    assert packed.input_ids.tolist() == [[1, 2, 4, 5]]
    assert packed.rows.tolist() == [3] and packed.targets.tolist() == [6]
    alone = pack([group([1, 2, 3], [])])
    assert alone.rows.numel() == alone.targets.numel() == alone.lengths.numel() == alone.is_prior.numel() == 0


def test_a_prompt_of_one_token_leaves_nothing_to_share():
    packed = pack([group([7], [[1, 2], [3]])])
    assert packed.input_ids.tolist() == [[7, 1, 7]] and packed.spans == (Span(0, 0, (2, 1)),)


def test_advantages_of_all_groups_or_of_none():
    with_advantages = group([1, 2], [[3], [4]], advantages=torch.tensor([1.0, -1.0]))
    assert pack([with_advantages, with_advantages]).advantages.tolist() == [1, -1, 1, -1]
    with pytest.raises(ValueError, match="either every group"):
        pack([with_advantages, group([1, 2], [[3]])])


def test_bad_groups_are_refused():
    with pytest.raises(ValueError, match="at least one group"):
        pack([])
    with pytest.raises(ValueError, match="p: an empty completion"):
        pack([Group(prompt([1, 2]), [torch.tensor([3]), torch.tensor([], dtype=torch.long)])])


def test_packing_to_a_device_moves_every_tensor():
    packed = pack([group([1, 2], [[3]], advantages=torch.zeros(1))]).to("meta")
    assert {t.device.type for t in vars(packed).values() if isinstance(t, torch.Tensor)} == {"meta"}
    assert packed.spans == (Span(0, 1, (1,)),)


def test_select_keeps_everything_of_the_chosen_completions():
    whole = group([1, 2], [[3], [4], [5]], sampler_logps=[torch.tensor([-float(i)]) for i in range(3)],
                  finished=[True, False, True], sources=["policy", "policy", "prior"],
                  advantages=torch.tensor([0.0, 1.0, 2.0]))
    part = whole.select([2, 0])
    assert [c.item() for c in part.completions] == [5, 3]
    assert [c.item() for c in part.sampler_logps] == [-2, 0]
    assert part.finished == [True, True] and part.advantages.tolist() == [2, 0]
    assert part.is_prior == [True, False]
    assert not any(whole.select([0, 1]).is_prior)


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=6)), min_size=1,
                    max_size=5),
    tokens=st.integers(1, 40),
)
def test_micro_batches_hold_every_completion_once_in_order_and_keep_to_the_budget(shapes, tokens):
    groups = [
        group(list(range(1, size + 1)), [[100 * g + slot] * n for slot, n in enumerate(lengths)],
              sources=["prior"] + ["policy"] * (len(lengths) - 1),
              advantages=torch.tensor([100.0 * g + slot for slot in range(len(lengths))]))
        for g, (size, lengths) in enumerate(shapes)
    ]
    batches = micro_batches(groups, tokens)
    whole = pack(groups)
    assert torch.equal(torch.cat([b.targets for b in batches]), whole.targets)
    assert torch.equal(torch.cat([b.lengths for b in batches]), whole.lengths)
    assert torch.equal(torch.cat([b.advantages for b in batches]), whole.advantages)
    assert torch.equal(torch.cat([b.is_prior for b in batches]), whole.is_prior)
    for batch in batches:
        assert torch.equal(batch.advantages[batch.owner], batch.targets.float()), "an advantage left its completion"
        apart = 0 if batch.prompt is None else batch.prompt.input_ids.shape[1]
        assert apart + batch.input_ids.shape[1] <= tokens or len(batch.lengths) == 1


def test_a_long_group_is_split_by_completions_behind_one_prompt():
    batches = micro_batches([group([7, 8], [[9]]), group([1, 2, 3], [[10, 11], [20], [30, 31, 32]])], tokens=5)
    whole, one, two = batches
    assert whole.prompt is None and whole.input_ids.tolist() == [[7, 8]]
    assert one.prompt is two.prompt and one.prompt.input_ids.tolist() == [[1, 2]] and not len(one.prompt.rows)
    assert [b.input_ids.tolist() for b in (one, two)] == [[[3, 10, 3]], [[3, 30, 31]]]
    assert [b.position_ids.tolist() for b in (one, two)] == [[[[2, 3, 2]]], [[[2, 3, 4]]]]
    assert [b.spans for b in (one, two)] == [(Span(0, 0, (2, 1)),), (Span(0, 0, (3,)),)]
    batches = micro_batches([group([1, 2, 3], [[10, 11], [20], [30, 31, 32]])], tokens=1)
    assert [b.targets.tolist() for b in batches] == [[10, 11], [20], [30, 31, 32]]


def test_parts_behind_a_prompt_of_one_token_have_nothing_apart():
    batches = micro_batches([group([1], [[10, 11], [20]])], tokens=2)
    assert [b.input_ids.tolist() for b in batches] == [[[1, 10]], [[1]]] and {b.prompt for b in batches} == {None}


def test_images_stand_in_the_prompt_alone():
    pixels, grid = torch.ones(4, 3), torch.tensor([[1, 2, 2]])
    pictured = prompt([1, 2, 3], pixel_values=pixels, image_grid_thw=grid, image_positions=torch.tensor([1]))
    one, _ = micro_batches([Group(pictured, [torch.tensor([4, 5]), torch.tensor([6])])], tokens=4)
    assert one.pixel_values is None and one.image_positions is None
    assert torch.equal(one.prompt.pixel_values, pixels) and one.prompt.image_positions.tolist() == [1]
    assert one.to("meta").prompt.pixel_values.is_meta


def test_groups_that_fit_share_a_micro_batch():
    groups = [group([1, 2], [[3, 4]])] * 4
    assert [len(b.lengths) for b in micro_batches(groups, tokens=6)] == [2, 2]
    assert [len(b.lengths) for b in micro_batches(groups, tokens=9)] == [3, 1]
