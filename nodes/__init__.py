"""The ComfyUI side: which nodes there are."""

from comfy_api.latest import ComfyExtension

from .demo import UnHypeDemoModel
from .eraser import UnHypeEraser
from .loader import UnHypeLoader, register_folders


class UnHypeExtension(ComfyExtension):
    async def on_load(self):
        register_folders()

    async def get_node_list(self):
        return [UnHypeLoader, UnHypeEraser, UnHypeDemoModel]
