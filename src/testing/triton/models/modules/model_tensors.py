"""Tensors in and out of Triton's python backend, and what the model's configuration says of them.

Everything crosses by DLPack. The backend's stub reads numpy 1's memory layout: handed an array of
numpy 2 it answers an output of no bytes, with status 200. By DLPack both versions work, so Python
3.13, for which numpy 1 has no wheel, does too.
"""
import ctypes
import json

import numpy as np
import triton_python_backend_utils as pb_utils

_set_capsule_name = ctypes.pythonapi.PyCapsule_SetName
_set_capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]
_set_capsule_name.restype = ctypes.c_int
# Python keeps the pointer, not the bytes, so they live as long as the module.
_USED = ctypes.c_char_p(b"used_dltensor")


class ModelTensors:
    """The names, types and dimension that config.pbtxt gives this model."""

    def __init__(self, args):
        config = json.loads(args["model_config"])
        names = [tensor["name"] for tensor in config["input"]]
        masks = [name for name in names if "mask" in name]
        ids = [name for name in names if "mask" not in name]
        if not masks or not ids:
            raise ValueError(f"needs an input of ids and one of their mask, not {names}")
        self.mask_name, self.ids_name = masks[0], ids[0]
        self.output_names = [tensor["name"] for tensor in config["output"]]
        self.output_name = self.output_names[0]
        self.dimension = int(config["output"][0]["dims"][-1])
        self.parameters = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}

    def read(self, request):
        """The ids and the mask of one request, each [texts, tokens]; borrowed from Triton."""
        return tuple(
            np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name))
            for name in (self.ids_name, self.mask_name)
        )

    def response(self, rows):
        """One response that carries `rows`, a contiguous float32 array, as the first output."""
        return pb_utils.InferenceResponse(output_tensors=[tensor_of(self.output_name, rows)])


def tensor_of(name, array):
    """A contiguous float32 array as one of Triton's tensors."""
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    # The stub marks a capsule that it took with a name that numpy does not know, and numpy then
    # complains on stderr for each. This is the name that the DLPack protocol prescribes.
    _set_capsule_name(capsule, _USED)
    return tensor
