"""Which layers carry the adapter, on small trees with the names of a Stable Diffusion UNet."""

import re

import pytest
from torch import nn

from unhype.layers import FAMILIES, SD1, Layer, check_layers, family_of, layer_table


class Attention(nn.Module):
    def __init__(self, width, context):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(inputs, width, bias=False) for inputs in (width, context, context))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attn1, self.attn2 = Attention(width, width), Attention(width, 6)


class UNet(nn.Module):
    def __init__(self, widths=(4, 8)):
        super().__init__()
        self.input_blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, 3)), nn.Sequential(Block(widths[0]))])
        self.middle_block = nn.Sequential(Block(widths[1]))


TABLE = (
    Layer("input_blocks.1.0.attn2.to_k", 6, 4),
    Layer("input_blocks.1.0.attn2.to_v", 6, 4),
    Layer("middle_block.0.attn2.to_k", 6, 8),
    Layer("middle_block.0.attn2.to_v", 6, 8),
)


def test_a_stable_diffusion_unet_is_known():
    assert family_of(UNet()) is SD1 is FAMILIES["sd1"]


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.double_blocks = nn.ModuleList([nn.Linear(4, 4)])


def sdxl():
    model = UNet()
    model.label_emb = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))
    return model


@pytest.mark.parametrize("make", [Transformer, sdxl])
def test_another_model_is_refused_by_class(make):
    model = make()
    with pytest.raises(ValueError, match=rf"\({type(model).__name__}\) is of no family.*sd1.*Stable Diffusion 1"):
        family_of(model)


def test_the_table_lists_cross_attention_keys_and_values_in_order():
    assert layer_table(UNet(), SD1) == TABLE


def test_what_has_no_matrix_or_another_name_is_no_layer():
    model = UNet()
    model.input_blocks[1][0].attn2.to_k_ip = nn.Linear(6, 4)
    model.middle_block[0].attn2.to_k = nn.Identity()
    model.middle_block[0].attn2.to_v = nn.Conv2d(6, 8, 1)
    assert layer_table(model, SD1) == TABLE[:2]


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(ValueError, match=re.escape("this sd1 model has no layer named like " + SD1.targets)):
        layer_table(nn.Sequential(nn.Linear(2, 2)), SD1)


def test_layers_that_fit_pass_also_when_they_are_a_part():
    check_layers(TABLE, UNet(), SD1, "cat.safetensors")
    check_layers(TABLE[2:], UNet(), SD1, "cat.safetensors")


@pytest.mark.parametrize(
    "wanted, model, says",
    [
        (TABLE, UNet((4, 16)), ("2 of its 4 layers", "middle_block.0.attn2.to_k (8 x 6 in the file, 16 x 6 here)")),
        (
            (TABLE[0], Layer("output_blocks.3.1.attn2.to_k", 6, 4)),
            UNet(),
            ("1 of its 2 layers", "output_blocks.3.1.attn2.to_k (4 x 6 in the file, not in this model)"),
        ),
        (
            (Layer("middle_block.0.attn1.to_k", 8, 8),),
            UNet(),
            ("1 of its 1 layers", "middle_block.0.attn1.to_k (8 x 8 in the file, not in this model)"),
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused(wanted, model, says):
    with pytest.raises(ValueError) as error:
        check_layers(wanted, model, SD1, "cat.safetensors")
    assert str(error.value).startswith("cat.safetensors does not fit this model") and all(text in str(error.value) for text in says)
    assert "base model that the eraser was trained for" in str(error.value)
