"""The ComfyUI side: which nodes there are."""

from comfy_api.latest import ComfyExtension, io

from .demo import UnHypeDemoModel
from .eraser import UnHypeEraser
from .inspect_prompt import UnHypeInspect
from .loader import UnHypeLoader, register_folders
from .merge import UnHypeMerge
from .to_lora import UnHypeToLora
from .train import UnHypeTrain


class UnHypeExtension(ComfyExtension):
    registered = False

    async def on_load(self) -> None:
        """Called before the nodes are listed from ComfyUI 0.14.0 on; before that by the list itself."""
        if not self.registered:
            register_folders()
            self.registered = True

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        await self.on_load()
        return [UnHypeLoader, UnHypeEraser, UnHypeTrain, UnHypeInspect, UnHypeMerge, UnHypeToLora, UnHypeDemoModel]
