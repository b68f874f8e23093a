//! The control plane: pipelines, runs, step runs, agents, HTTP. Nothing of it is built yet; the data plane runs without it.
