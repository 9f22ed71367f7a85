"""Read models: a pure reducer per kind of resource, the projection that runs them, and the store that answers reads."""
