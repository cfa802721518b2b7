"""The ComfyUI side: which nodes there are."""

from comfy_api.latest import ComfyExtension

from .demo import UnHypeDemoModel
from .eraser import UnHypeEraser
from .loader import UnHypeLoader, register_folders


class UnHypeExtension(ComfyExtension):
    async def get_node_list(self):
        register_folders()  # not in on_load, which ComfyUI 0.3.75 never calls
        return [UnHypeLoader, UnHypeEraser, UnHypeDemoModel]
