"""A graphics card that is none: tensors that say they lie on the device "card", and are computed by the CPU.

What a real card refuses is refused: operations on tensors of both devices, a CPU's generator for numbers drawn on the card,
NumPy's view of a tensor on the card. So a test sees, on a machine without a card, whether a program keeps its tensors together.
Not as on a card: a module that is moved gets new parameters.
"""

from types import ModuleType

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

GB = 1024**3
aten = torch.ops.aten
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
BETWEEN = {aten.copy_.default, aten._to_copy.default} | INDEXED  # what may be asked of tensors of both devices

_setup_privateuseone_for_python_backend("card")
functions = ModuleType("torch.card")  # of torch.cuda's those that somebody asks for
functions.is_available, functions.device_count, functions.current_device = lambda: True, lambda: 1, lambda: 0
functions.synchronize = functions.empty_cache = functions.reset_peak_memory_stats = functions.manual_seed_all = lambda *_: None
functions.max_memory_reserved, functions.get_device_name = lambda *_: GB, lambda *_: "Pretended"
functions.get_amp_supported_dtype, functions._is_in_bad_fork = lambda: [torch.bfloat16], lambda: False
torch.card = functions
CARD = torch.device("card:0")


class OnCard(torch.Tensor):
    """A tensor whose numbers are `held`, a tensor of the CPU's."""

    @staticmethod
    def __new__(cls, held):
        kept = {"dtype": held.dtype, "device": CARD, "storage_offset": held.storage_offset(), "strides": held.stride()}
        found = torch.Tensor._make_wrapper_subclass(cls, held.size(), **kept)
        found.held = held
        return found

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})

    def untyped_storage(self):
        return self.held.untyped_storage()  # only to tell whether two share it

    def __deepcopy__(self, memo):
        copied = OnCard(self.held.clone())
        return memo.setdefault(id(self), torch.nn.Parameter(copied, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copied)

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, **_):
        raise TypeError("can't convert card:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")


class Watching(TorchDispatchMode):
    """Sends what is made on the card, or copied to it, there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


def held(value):
    """What the CPU is given in place of a tensor on the card, or of the card itself."""
    if isinstance(value, OnCard):
        return value.held
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "card" else value


def computed(func, args, kwargs):
    """What the operation gives, on the card where its tensors lie there or where that is asked for."""
    if func is aten._has_compatible_shallow_copy_type.default:
        return False
    if func._can_decompose():  # in inference mode operations come whole that are else seen by their parts
        with Watching():
            return func.decompose(*args, **kwargs)
    flat, spec = tree_flatten((args, kwargs))
    mine = [t for t in flat if isinstance(t, OnCard)]
    others = [t for t in flat if isinstance(t, torch.Tensor) and not isinstance(t, OnCard) and t.ndim]
    first, asked, generator = args[0] if args else None, kwargs.get("device"), kwargs.get("generator")
    to_card = torch.device(asked).type == "card" if asked is not None else bool(mine)
    if func in BETWEEN - {aten._to_copy.default}:
        to_card = isinstance(first, OnCard)
    if mine and others and (func not in BETWEEN or func in INDEXED and not to_card):
        raise RuntimeError(f"{func}: Expected all tensors to be on the same device, but found at least two devices, card:0 and cpu!")
    if to_card and generator is not None:
        raise RuntimeError(f"{func}: Expected a 'card' device type for generator but found 'cpu'")
    inner_args, inner_kwargs = tree_unflatten([held(each) for each in flat], spec)
    out = func(*inner_args, **inner_kwargs)
    known = {id(t.held): t for t in mine}
    return tree_map(lambda t: known[id(t)] if id(t) in known else OnCard(t) if to_card and isinstance(t, torch.Tensor) else t, out)


def made(make):
    """A kernel of the card's for what no mode sees, as torch.tensor(..., device=) makes it."""
    kept = lambda settings: {k: v for k, v in settings.items() if k not in ("device", "pin_memory") and v is not None}
    return lambda *sizes, **settings: OnCard(make(*sizes, **kept(settings)))


kernels = torch.library.Library("aten", "IMPL")
kernels.impl("empty_strided", made(torch.empty_strided), "PrivateUse1")
kernels.impl("empty.memory_format", made(torch.empty), "PrivateUse1")
kernels.impl("_copy_from", lambda source, to, wait=False: (held(to).copy_(held(source)), to)[1], "PrivateUse1")
