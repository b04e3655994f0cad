"""etcd, behind ``interfaces.IEtcd``: the only package that speaks to it."""
