"""From a kernel that exists to a file that declares it as an op, for `triptych new --from`."""
