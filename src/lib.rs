//! The parts of the `arcgate` binary that its tests and benches use too.
