import pytest
import torch


@pytest.fixture(scope="session")
def device():
    """The device, for the rest of this process."""
    from tests.apple.device import register

    return register()


@pytest.fixture
def there(device):
    """The device, which is there for one test."""
    from tests.apple.device import Device

    with Device(), torch.no_grad():
        yield device
