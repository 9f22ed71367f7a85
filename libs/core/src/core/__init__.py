"""What every Cirra service uses: event log, bus, sagas, reconcile, leases, settings, telemetry, ids."""
