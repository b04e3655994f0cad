import pytest

pytest.register_assert_rewrite(
    "flynnhost.testing.etcd_contract",
    "flynnhost.testing.etcd_contract_rig",
    "flynnhost.testing.etcd_contract_watch",
)
