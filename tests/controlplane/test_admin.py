"""Where a pod's admin port is."""

from forebay_operator.admin import admin_url


def test_an_address_of_either_family_makes_a_url() -> None:
    assert admin_url("10.0.0.7", "/state") == "http://10.0.0.7:9901/state"
    assert admin_url("fd00::7", "/grant") == "http://[fd00::7]:9901/grant"
