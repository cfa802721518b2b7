"""Which layers carry the adapter, on small trees with the names of Stable Diffusion's UNet and of Flux."""

import re

import pytest
from torch import nn

from unhype.layers import FAMILIES, Layer, check_layers, family_of, layer_table

SD1, FLUX = FAMILIES["sd1"], FAMILIES["flux"]


class Attention(nn.Module):
    def __init__(self, width, context):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(inputs, width, bias=False) for inputs in (width, context, context))


class Block(nn.Module):
    def __init__(self, width, linear=False):
        super().__init__()
        self.proj_in = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)
        self.attn1, self.attn2 = Attention(width, width), Attention(width, 6)


class UNet(nn.Module):
    def __init__(self, widths=(4, 8), linear=False):
        super().__init__()
        first = nn.ModuleList([nn.Identity(), Block(widths[0], linear)])
        self.input_blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, 3)), first])
        self.middle_block = nn.Sequential(Block(widths[1], linear))


class Stream(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)


class DoubleBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.img_attn, self.txt_attn = Stream(width), Stream(width)


class SingleBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, 7 * width), nn.Linear(5 * width, width)


class Flux(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.txt_in, self.vector_in = nn.Linear(6, width), nn.Module()
        self.vector_in.in_layer = nn.Linear(5, width)
        self.double_blocks = nn.ModuleList([DoubleBlock(width)])
        self.single_blocks = nn.ModuleList([SingleBlock(width), SingleBlock(width)])


def sdxl():
    model = UNet(linear=True)
    model.input_blocks[1][1] = nn.Identity()
    model.label_emb = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))
    return model


TABLE = (
    Layer("input_blocks.1.1.attn2.to_k", 6, 4),
    Layer("input_blocks.1.1.attn2.to_v", 6, 4),
    Layer("middle_block.0.attn2.to_k", 6, 8),
    Layer("middle_block.0.attn2.to_v", 6, 8),
)


FLUX_TABLE = (
    Layer("double_blocks.0.img_attn.qkv", 4, 4, 8),
    Layer("double_blocks.0.img_attn.proj", 4, 4),
    Layer("double_blocks.0.txt_attn.qkv", 4, 4, 8),
    Layer("single_blocks.0.linear1", 4, 4, 8),
    Layer("single_blocks.1.linear1", 4, 4, 8),
)


@pytest.mark.parametrize("make, name", [(UNet, "sd1"), (lambda: UNet(linear=True), "sd2"), (sdxl, "sdxl"), (Flux, "flux")])
def test_a_family_is_known_by_its_parameters(make, name):
    assert family_of(make()) is FAMILIES[name]


class Video(nn.Module):
    """As HunyuanVideo, whose text goes through a refiner."""

    def __init__(self):
        super().__init__()
        flux = Flux()
        self.double_blocks, self.single_blocks, self.vector_in = flux.double_blocks, flux.single_blocks, flux.vector_in
        self.txt_in = nn.Sequential(nn.Linear(4, 4))


def flux2():
    model = Flux()
    model.vector_in = None
    model.double_stream_modulation_img = nn.Module()
    model.double_stream_modulation_img.lin = nn.Linear(4, 4)
    return model


def unclip():
    model = UNet(linear=True)
    model.label_emb = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))
    return model


@pytest.mark.parametrize("make", [Video, flux2, unclip, lambda: nn.Sequential(nn.Linear(2, 2))])
def test_another_model_is_refused_by_class(make):
    model = make()
    with pytest.raises(ValueError, match=rf"\({type(model).__name__}\) is of no family.*Stable Diffusion 1.*XL, Flux"):
        family_of(model)


def test_of_flux_the_value_rows_and_the_image_projection():
    assert layer_table(Flux(), FLUX) == FLUX_TABLE


def test_the_table_lists_cross_attention_keys_and_values_in_order():
    assert layer_table(UNet(), SD1) == TABLE


def test_what_has_no_matrix_or_another_name_is_no_layer():
    model = UNet()
    model.input_blocks[1][1].attn2.to_k_ip = nn.Linear(6, 4)
    model.middle_block[0].attn2.to_k = nn.Identity()
    model.middle_block[0].attn2.to_v = nn.Conv2d(6, 8, 1)
    assert layer_table(model, SD1) == TABLE[:2]


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(ValueError, match=re.escape("this Stable Diffusion 1.x model has no layer named like " + SD1.targets[0].pattern)):
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
