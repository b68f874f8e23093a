//! What the desk says and does, message by message.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn step(id: &str) -> StepRun {
    StepRun { step_run_id: id.into(), ..StepRun::default() }
}

fn report(id: &str, status: StepRunStatus) -> Report {
    Report { step_run_id: id.into(), status, exit_code: 0, message: String::new(), ended: 5_000 }
}

fn said(act: Act) -> Say {
    let Act::Say(say) = act else { panic!("{act:?}") };
    say
}

/// A desk with one step run that executes.
fn executing(id: &str) -> Desk {
    let mut desk = Desk::new(4);
    let asked = desk.assigned(step(id)).unwrap();
    assert!(matches!(desk.answered(&asked.request_id), Act::Start(_)));
    desk
}

#[test]
fn a_step_starts_only_after_the_yes_and_once() {
    let mut desk = Desk::new(4);
    let asked = desk.assigned(step("a")).unwrap();
    assert_eq!(asked.update.status(), StepRunStatus::Running);
    assert_eq!(desk.assigned(step("a")), None, "it is known");
    assert_eq!(desk.answered(""), Act::Nothing);
    assert_eq!(desk.answered("r99"), Act::Nothing);
    assert_eq!(desk.answered(&asked.request_id), Act::Start(Box::new(step("a"))));
    assert_eq!(desk.answered(&asked.request_id), Act::Nothing);
    assert_eq!(desk.assigned(step("a")), None);
}

#[test]
fn the_no_is_the_end_of_a_step_that_never_began() {
    let mut desk = Desk::new(4);
    let asked = desk.assigned(step("a")).unwrap();
    assert_eq!(desk.cancelled("a", &asked.request_id, "over", 0), Act::Nothing);
    assert_eq!((desk.executing(), desk.opened()), (0, vec![]));
}

#[test]
fn a_step_cancelled_between_the_question_and_the_yes_never_begins_and_is_reported() {
    let mut desk = Desk::new(4);
    let asked = desk.assigned(step("a")).unwrap();
    let end = said(desk.cancelled("a", "", "enough", 7_000));
    assert_eq!((end.update.status(), end.update.timestamp), (StepRunStatus::Cancelled, 7));
    assert_eq!(desk.answered(&asked.request_id), Act::Nothing, "the yes comes too late");
    assert!(desk.is_waiting());
    assert_eq!(desk.answered(&end.request_id), Act::Nothing);
    assert!(!desk.is_waiting() && desk.opened().is_empty());
}

#[test]
fn what_was_not_answered_is_said_again_on_the_next_channel_and_what_executes_is_named() {
    let mut desk = executing("a");
    let first = desk.assigned(step("b")).unwrap();
    let ended = {
        let asked = desk.assigned(step("c")).unwrap();
        desk.answered(&asked.request_id);
        said(desk.ended(report("c", StepRunStatus::Failed)))
    };
    let again = desk.opened();
    let statuses: Vec<_> = again.iter().map(|say| (&*say.update.step_run_id, say.update.status())).collect();
    let running = StepRunStatus::Running;
    assert_eq!(statuses, [("a", running), ("b", running), ("c", StepRunStatus::Failed)]);
    assert_eq!(desk.executing(), 2, "no more than were named");
    // Answers on the channel before count no more.
    assert_eq!(desk.answered(&first.request_id), Act::Nothing);
    assert_eq!(desk.answered(&ended.request_id), Act::Nothing);
    assert_eq!(desk.answered(&again[0].request_id), Act::Nothing, "it goes on");
    assert_eq!(desk.answered(&again[1].request_id), Act::Start(Box::new(step("b"))));
    desk.answered(&again[2].request_id);
    assert_eq!(desk.opened().len(), 2);
}

#[test]
fn what_executes_is_stopped_by_a_wish_and_by_the_no_after_a_reconnect() {
    let stop = Act::Stop { step_run_id: "a".into(), reason: "enough".into() };
    let mut desk = executing("a");
    assert_eq!(desk.cancelled("a", "", "enough", 0), stop);
    let mut desk = executing("a");
    let again = desk.opened();
    assert_eq!(desk.cancelled("a", &again[0].request_id, "enough", 0), stop);
    let end = said(desk.ended(report("a", StepRunStatus::Cancelled)));
    assert_eq!(desk.cancelled("a", "", "enough", 0), Act::Nothing);
    assert_eq!(desk.cancelled("a", &end.request_id, "it is over", 0), Act::Nothing, "an answer, too");
    assert!(desk.opened().is_empty());
    assert_eq!(desk.cancelled("x", "", "enough", 0), Act::Nothing);
}

#[test]
fn there_is_a_bound() {
    let mut desk = Desk::new(1);
    assert!(desk.assigned(step("")).is_none());
    assert!(desk.assigned(step("a")).is_some());
    assert!(desk.assigned(step("b")).is_none());
    assert_eq!(desk.executing(), 1);
}
