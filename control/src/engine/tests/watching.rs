//! Watching: a snapshot, then each change.

use std::collections::HashMap;

use super::*;

/// Follows a run to its end, and says the last status of each step and how many changes came.
async fn follow(mut watcher: Watcher) -> (HashMap<String, StepRunStatus>, usize, usize) {
    let (mut steps, mut changes, mut snapshots) = (HashMap::new(), 0, 0);
    while let Some(seen) = watcher.next().await.unwrap() {
        match seen {
            Seen::Snapshots(all) => {
                snapshots += 1;
                for (job, of) in all.iter().flat_map(|snapshot| &snapshot.jobs) {
                    steps.extend(of.iter().map(|step| (format!("{}.{}", job.name, step.name), step.status)));
                }
            }
            Seen::Change(update) => {
                if let Moved::Step { from, job, step, .. } = &update.what {
                    let before = steps.insert(format!("{job}.{}", step.name), step.status);
                    // No gap, no repeat: each change begins where the one before, or the snapshot, has ended.
                    assert_eq!(before, Some(*from), "{update:?}");
                    changes += 1;
                }
            }
        }
    }
    (steps, changes, snapshots)
}

#[tokio::test]
async fn a_watcher_who_comes_at_any_time_sees_no_gap_and_no_repeat() {
    for bench in Bench::all().await {
        let run = bench.run(DIAMOND).await;
        let mut watchers = Vec::new();
        for moment in 0..30 {
            watchers.push(tokio::spawn(follow(bench.engine.watch([run.clone()]))));
            if moment % 3 == 0 {
                tokio::task::yield_now().await;
            }
            if moment % 5 == 0 {
                for (_, id) in bench.take("x", 1).await {
                    bench.report("x", &id, StepRunStatus::Running).await.unwrap();
                    watchers.push(tokio::spawn(follow(bench.engine.watch([run.clone()]))));
                    bench.report("x", &id, StepRunStatus::Success).await.unwrap();
                }
            }
        }
        assert_eq!(bench.status(&run).await, PipelineStatus::Success);
        let mut most = 0;
        for watcher in watchers {
            let (steps, changes, snapshots) = watcher.await.unwrap();
            assert_eq!((steps.len(), snapshots), (5, 1));
            assert!(steps.values().all(|status| *status == StepRunStatus::Success), "{steps:?}");
            most = most.max(changes);
        }
        assert!(most > 5, "nobody saw changes");
    }
}

#[tokio::test]
async fn what_the_snapshot_shows_is_not_told_again() {
    for bench in Bench::all().await {
        let run = bench.run(ONE).await;
        let id = bench.take("x", 1).await.remove(0).1;
        let mut watcher = bench.engine.watch([run]);
        // After the watcher took its place in the channel, before it reads the snapshot.
        bench.report("x", &id, StepRunStatus::Running).await.unwrap();
        let Some(Seen::Snapshots(snapshots)) = watcher.next().await.unwrap() else { panic!("no snapshot") };
        assert_eq!(snapshots[0].jobs[0].1[0].status, StepRunStatus::Running);
        bench.report("x", &id, StepRunStatus::Success).await.unwrap();
        let Some(Seen::Change(first)) = watcher.next().await.unwrap() else { panic!("no change") };
        assert!(matches!(&first.what, Moved::Step { from: StepRunStatus::Running, .. }), "{first:?}");
    }
}

#[tokio::test]
async fn who_is_too_slow_gets_a_new_snapshot_and_no_lie() {
    let bench = Bench::one().await;
    let run = bench.run(ONE).await;
    let mut watcher = bench.engine.watch([run.clone()]);
    assert!(matches!(watcher.next().await.unwrap(), Some(Seen::Snapshots(_))));
    let other = bench.pipeline(ONE).await;
    for _ in 0..super::super::watching::CHANNEL / 2 {
        bench.trigger(&other).await;
    }
    bench.engine.run(&run, OfRun::Cancel(String::new())).await.unwrap();
    let Some(Seen::Snapshots(again)) = watcher.next().await.unwrap() else { panic!("no snapshot") };
    assert_eq!(again[0].run.status, PipelineStatus::Cancelled);
    assert!(watcher.next().await.unwrap().is_none());
}

#[tokio::test]
async fn watching_what_is_over_gives_the_snapshot_and_ends() {
    let bench = Bench::one().await;
    let run = bench.run(ONE).await;
    bench.work("x", succeed).await;
    let (steps, changes, _) = follow(bench.engine.watch([run, "none".into()])).await;
    assert_eq!((steps["j.s"], changes), (StepRunStatus::Success, 0));
}
