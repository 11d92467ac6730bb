import pytest
import torch
from torch.utils import backend_registration


@pytest.fixture(scope="session")
def device():
    """The device, for the rest of this process."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch lets no device be made in Python")
    from tests.apple.device import register

    return register()


@pytest.fixture
def there(device):
    """The device, which is there for one test."""
    from tests.apple.device import Device

    with Device(), torch.no_grad():
        yield device
