"""JupyterLab's server for this series (make lab): who only opens a notebook has changed nothing in it."""

from ipykernel.ipkernel import IPythonKernel
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

NAME = "python3"
STORED = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": NAME},
    "language_info": {"name": "python"},
}


def details() -> dict:
    """What JupyterLab writes into a notebook as soon as its kernel has started."""
    spec = KernelSpecManager().get_kernel_spec(NAME)
    kernel = {"display_name": spec.display_name, "language": spec.language, "name": NAME}
    return {"kernelspec": kernel, "language_info": IPythonKernel.language_info}


class SeriesContents(AsyncLargeFileManager):
    """Add the kernel's details when a notebook is read, and remove them when it is saved.

    JupyterLab would add them itself, and call a notebook unsaved that its reader has only opened.
    """

    async def get(self, path, content=True, *args, **options):
        model = await super().get(path, content, *args, **options)
        if content and model["type"] == "notebook":
            exchange(model["content"]["metadata"], details())
        return model

    async def save(self, model, path=""):
        if model.get("type") == "notebook" and model.get("content"):
            exchange(model["content"]["metadata"], STORED)
        return await super().save(model, path)


def exchange(metadata: dict, ours: dict) -> None:
    """Other kernels' notebooks stay as they are."""
    if metadata.get("kernelspec", {}).get("name") == NAME:
        metadata.update(ours)


c.ServerApp.contents_manager_class = SeriesContents  # noqa: F821
