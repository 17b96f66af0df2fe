"""The temporal decoder against torch's own transformer, on rows of unequal length, and with frames hidden."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svm_ext.models.decoder import TemporalDecoder

WIDTH, HEADS, LAYERS, FRAMES = 16, 2, 3, 5
CAUSAL = pytest.mark.parametrize("causal", [False, True], ids=["both-ways", "causal"])
NAN = float("nan")


def decoder(causal: bool = False, dtype: torch.dtype = torch.float64) -> TemporalDecoder:
    model = TemporalDecoder(WIDTH, HEADS, LAYERS, FRAMES, causal=causal).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)  # biases and places count
    return model


def decode(model: TemporalDecoder, features: Tensor) -> Tensor:
    """All places of every row are frames."""
    return model(features, torch.full((len(features),), features.shape[1]))


def torch_layer(block: nn.Module) -> nn.TransformerEncoderLayer:
    """Torch's layer with the weights of a block."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, 0.0, lambda x: x * torch.sigmoid(1.702 * x), batch_first=True, norm_first=True
    ).double()
    ours = block.state_dict()
    names = {
        "self_attn.in_proj_weight": "in_proj.weight",
        "self_attn.in_proj_bias": "in_proj.bias",
        "self_attn.out_proj.": "out_proj.",
        "linear1.": "mlp.c_fc.",
        "linear2.": "mlp.c_proj.",
        "norm1.": "ln_1.",
        "norm2.": "ln_2.",
    }
    for theirs, name in names.items():
        for part in ("weight", "bias") if theirs.endswith(".") else ("",):
            layer.state_dict()[theirs + part].copy_(ours[name + part])
    return layer


@CAUSAL
@torch.no_grad()
def test_against_torchs_own_layers(causal):
    model, features = decoder(causal), torch.randn(3, FRAMES, WIDTH, dtype=torch.float64)
    x = model.ln_pre(features) + model.positional_embedding
    hidden = torch.ones(FRAMES, FRAMES, dtype=torch.bool).triu(1) if causal else None
    for block in model.blocks:
        x = torch_layer(block)(x, src_mask=hidden)
    torch.testing.assert_close(decode(model, features), x)


@pytest.mark.parametrize("length", [1, 2, 4, 5, 7, 16])
def test_places_of_other_lengths_are_interpolated(length):
    model = decoder()
    places = model.positions(torch.arange(length)[None], torch.tensor([[length]]))
    wanted = F.interpolate(model.positional_embedding.T[None], length, mode="linear", align_corners=False)[0].T
    torch.testing.assert_close(places[0], wanted, rtol=1e-6, atol=1e-6)


def test_the_table_itself_at_its_own_length():
    model = decoder()
    places = model.positions(torch.arange(FRAMES)[None], torch.tensor([[FRAMES]]))
    assert torch.equal(places[0], model.positional_embedding)


def test_causal_places_do_not_know_the_length():
    model = decoder(causal=True)
    for length in range(1, FRAMES + 1):
        places = model.positions(torch.arange(length)[None], torch.tensor([[length]]))
        assert torch.equal(places[0], model.positional_embedding[:length])


@CAUSAL
def test_every_row_is_decoded_as_if_alone(causal):
    """Rows of unequal length in one call; what lies before their frames is never looked at."""
    model, held = decoder(causal), torch.tensor([1, 3, 5, 2])
    features = torch.randn(4, FRAMES, WIDTH, dtype=torch.float64)
    for row, count in enumerate(held.tolist()):
        features[row, : FRAMES - count] = NAN
    features.requires_grad_()
    out = model(features, held)
    for row, count in enumerate(held.tolist()):
        alone = decode(model, features[row, None, FRAMES - count :])
        torch.testing.assert_close(out[row, None, FRAMES - count :], alone)
    out.sum().backward()
    assert features.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_causal_frames_do_not_see_later_ones():
    model, features = decoder(causal=True), torch.randn(1, FRAMES, WIDTH, dtype=torch.float64)
    changed = features.clone()
    changed[:, 3] = features[:, 3].flip(-1)
    before, after = decode(model, features), decode(model, changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:], after[:, 3:]).all(-1).any()


def test_otherwise_they_do():
    model, features = decoder(), torch.randn(1, FRAMES, WIDTH, dtype=torch.float64)
    changed = features.clone()
    changed[:, 3] = features[:, 3].flip(-1)
    assert not torch.isclose(decode(model, features), decode(model, changed)).all(-1).any()


def test_order_counts():
    """Attention alone would not know it; the places do."""
    model, features = decoder(), torch.randn(1, FRAMES, WIDTH, dtype=torch.float64)
    assert not torch.allclose(decode(model, features).mean(1), decode(model, features.flip(1)).mean(1), atol=1e-3)


@CAUSAL
def test_gradients(causal):
    model, held = decoder(causal), torch.tensor([2, 5])
    features = torch.randn(2, FRAMES, WIDTH, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: model(x, held), features, fast_mode=True)


def test_low_precision_stays_near():
    model = decoder(dtype=torch.float32)
    features = torch.randn(2, FRAMES, WIDTH)
    with torch.no_grad():
        exact = decode(model, features)
        with torch.autocast("cpu", torch.bfloat16):
            near = decode(model, features)
    assert (near - exact).abs().max() < 0.05 * exact.abs().max()
