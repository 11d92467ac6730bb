"""Which warnings are errors in a test: all but a few of others' own."""

import warnings

import pytest

TORCH = (
    ("`torch.jit.script_method` is deprecated. Please switch to", DeprecationWarning, "torch.utils.mkldnn"),
    (
        "TensorFloat32 tensor cores for float32 matrix multiplication",
        UserWarning,
        "torch._inductor.compile_fx",
    ),
    ("\nOnline softmax is disabled on the fly", UserWarning, "torch._inductor.lowering"),
)


@pytest.mark.parametrize(("text", "kind", "module"), TORCH)
def test_torch_may_warn_of_itself_and_nobody_else_may(text, kind, module):
    warnings.warn_explicit(text, kind, "file.py", 1, module=module)
    with pytest.raises(kind):
        warnings.warn_explicit(text, kind, "file.py", 1, module="sag.hook")
    with pytest.raises(kind):
        warnings.warn_explicit("another", kind, "file.py", 1, module=module)
