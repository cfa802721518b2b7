"""UnHype for ComfyUI: erase concepts from a model, only where a prompt means them (arXiv 2602.03410)."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> object:
    from .nodes import UnHypeExtension

    return UnHypeExtension()
