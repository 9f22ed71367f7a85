"""What several test suites share: a control plane in one process, hosts that can be told what to do."""
