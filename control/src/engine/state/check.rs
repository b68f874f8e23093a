//! In tests, after each commit: what is in memory is what a start would read.

use std::collections::BTreeMap;

use super::*;
use crate::db::Database;

impl State {
    /// Ends the test if the memory and the database disagree.
    pub(in crate::engine) async fn check(&self, database: &Database, now: Millis) {
        // It reads all there is: not in tests of many runs.
        if self.runs.len() > 30 {
            return;
        }
        let mut read = database.read().await.unwrap();
        let fresh = Self::load(&mut read, now).await.unwrap();
        assert_eq!(self.summary(), fresh.summary());
        for (id, loaded) in &self.runs {
            let fresh = Loaded::load(&mut read, id, &mut Specs::default()).await.unwrap().unwrap();
            assert_eq!(loaded.run.record(), fresh.run.record());
            let rows = |loaded: &Loaded| format!("{:?} {:?} {:?}", loaded.head, loaded.jobs, loaded.steps);
            assert_eq!(rows(loaded), rows(&fresh));
            assert_eq!(self.due.of(id), loaded.run.due());
        }
    }

    fn summary(&self) -> BTreeMap<&'static str, Vec<String>> {
        let sorted = |mut all: Vec<String>| {
            all.sort();
            all
        };
        let times = |times: &Times| sorted(times.of.iter().map(|(what, at)| format!("{what} {at}")).collect());
        let held = self.held.iter().map(|(agent, held)| format!("{agent} {:?}", sorted(held.iter().cloned().collect())));
        BTreeMap::from([
            ("seq", vec![self.seq.to_string()]),
            ("ready", sorted(self.ready.all())),
            ("due", times(&self.due)),
            ("leases", times(&self.leases)),
            ("held", sorted(held.collect())),
            ("locks", vec![format!("{:?}", self.locks)]),
            ("agents", sorted(self.agents.all())),
            ("schedules", sorted(self.schedules.all())),
        ])
    }
}
