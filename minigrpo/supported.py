"""Which models the engine computes right: the others are refused when they are loaded, in one line that says why."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from minigrpo.attention import LANGUAGE, PackedLayout
from minigrpo.layout import EncodedPrompt, Group, Packed, pack

OFF = {torch.bfloat16: 0.3, torch.float16: 0.1}
"""How far from transformers' own, relative to its length, a token's logits may be in half precision, where an expert's
choice may fall otherwise by rounding; else 1e-3. Training always loads the policy in float32 at least."""


def check_supported(net: nn.Module) -> None:
    """Refuses a model that is known by its configuration to be computed wrongly.

    Raises:
        ValueError: names what is missing.
    """
    text, problems = net.config.get_text_config(), []
    if not getattr(net, "_supports_attention_backend", False):
        problems.append("its attention does not go through transformers' attention interface")
    if not hasattr(net, "lm_head") or not hasattr(net, "model"):
        problems.append("it is not a decoder (.model) with an LM head (.lm_head)")
    if "sliding_attention" in (getattr(text, "layer_types", None) or ()):
        problems.append("it has sliding-window layers")
    if other := set(getattr(text, "layer_types", None) or ()) - {"sliding_attention", "full_attention"}:
        problems.append(f"it has layers of type {', '.join(sorted(other))}")
    # these look at the longest sequence there is: what is packed beside a completion would change its positions
    for kind in sorted(_rope_types(text) & {"dynamic", "longrope"}):
        problems.append(f"its rotary embeddings are of type {kind}")
    for name in ("attn_logit_softcapping", "final_logit_softcapping", "logits_scaling", "logit_scale"):
        if getattr(text, name, None) not in (None, 1, 1.0):
            problems.append(f"it uses {name}")
    if any(name.endswith(".sinks") for name, _ in net.named_parameters()):
        problems.append("it has attention sinks")
    rates = [getattr(text, f"{kind}dropout", 0) for kind in ("", "attention_", "hidden_", "activation_")]
    if any(rates) or any(m.p > 0 for m in net.modules() if isinstance(m, nn.Dropout)):
        problems.append("it has dropout, with which rollout and training disagree: set it to 0 in its config.json")
    if problems:
        raise _refused(net, "; ".join(problems))


@torch.no_grad()
def probe(net: nn.Module, decoder: nn.Module, axes: int) -> None:
    """Compares the logits of a few packed tokens with those of transformers' own eager attention, sequence by sequence.

    So whatever the layouts do not implement is found, by its numbers if not by its name, at the cost of twenty tokens.

    Args:
        net: The HF model, its language model set to minigrpo's attention, as it is afterwards.
        decoder: Its language model without the head.
        axes: Axes of its position ids.

    Raises:
        ValueError: a forward fails, a layer calls attention never or twice, or the logits are not the same or finite.
    """
    def attend_by(name: str) -> None:
        net.set_attn_implementation(name if axes == 1 else {"text_config": name})

    embed, training = net.get_input_embeddings(), net.training
    ids = (torch.arange(8) * 37 + 11) % len(embed.weight)
    prompt = EncodedPrompt("probe", ids[:4], torch.arange(4).expand(axes, -1))
    completions = [ids[4:6], ids[6:8]]
    packed = pack([Group(prompt, completions)]).to(embed.weight.device)
    whole = torch.stack([torch.cat([prompt.input_ids, c[:-1]]) for c in completions]).to(embed.weight.device)  # [2, 5]
    places = torch.arange(5, device=whole.device).expand(axes, 2, -1)
    layout = Counted(packed)
    try:
        net.eval()
        hidden = decoder(inputs_embeds=embed(packed.input_ids), use_cache=False, layout=layout,
                         position_ids=packed.position_ids if axes > 1 else packed.position_ids[0]).last_hidden_state
        ours = net.lm_head(hidden[0, packed.rows])  # [4, V]
        attend_by("eager")
        if axes == 1:  # the whole model, so that what it does to embeddings and logits is seen as well
            plain = net(input_ids=whole, position_ids=places[0], use_cache=False).logits
        else:
            plain = net.lm_head(decoder(input_ids=whole, position_ids=places, use_cache=False).last_hidden_state)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a forward may raise
        raise _refused(net, f"{type(error).__name__} in its first forward: {' '.join(str(error).split())}") from error
    finally:
        attend_by(LANGUAGE)
        net.train(training)
    for layer in range(net.config.get_text_config().num_hidden_layers):
        if (calls := layout.calls.count(layer)) != 1:
            raise _refused(net, f"its layer {layer} calls attention {calls} times, not once")
    if not ours.isfinite().all():
        raise ValueError("the model's logits are not finite: its weights are broken")
    plain = plain[:, -2:].flatten(0, 1).double()
    off = float(((ours.double() - plain).norm(dim=-1) / plain.norm(dim=-1)).max())
    if not off <= OFF.get(ours.dtype, 1e-3):
        raise _refused(net, f"packed, its logits differ from transformers' own by {off:.1%}")


class Counted(PackedLayout):
    """Notes which layers call it."""

    def __init__(self, packed: Packed) -> None:
        super().__init__(packed)
        self.calls: list[int] = []

    def attend(self, layer: int, *args) -> Tensor:
        """As `PackedLayout`."""
        self.calls.append(layer)
        return super().attend(layer, *args)


def _rope_types(text: PreTrainedConfig) -> set[str]:
    """Types of the rotary embeddings: one of a configuration, or one of each type of layer; none without any."""
    stated = getattr(text, "rope_parameters", None) or {}
    return {p["rope_type"] for p in (stated, *stated.values()) if isinstance(p, dict) and "rope_type" in p}


def _refused(net: nn.Module, why: str) -> ValueError:
    return ValueError(f"model type {net.config.model_type} is not supported: {why}")
